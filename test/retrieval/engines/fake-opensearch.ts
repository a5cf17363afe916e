/** @file What OpenSearch's REST interface with the k-NN plugin answers, as far as the client is used: documents in memory. */
import { type Answered, dot, type FakeServer, fakeServer } from './http-server.ts';

interface Source {
  id: string;
  facets: string[];
  terms: string;
  vector: number[];
}
interface Index {
  mappings: { properties: { vector: { dimension: number } } };
  documents: Map<string, Source>;
}
interface Query {
  bool?: { must?: Query[]; filter?: Query[] };
  ids?: { values: string[] };
  term?: { facets: string };
  match?: { terms: string };
  match_all?: object;
  knn?: { vector: { vector: number[]; k: number; filter?: Query } };
  script_score?: { query: Query; script: { params: { query_value: number[]; space_type: string } } };
}

const refused = (status: number, type: string, reason: string): Answered => ({
  status,
  body: { error: { root_cause: [{ type, reason }], type, reason }, status },
});
/** The k-NN plugin's score of an inner product. */
const scored = (product: number): number => Math.fround(product >= 0 ? product + 1 : 1 / (1 - product));

export const fakeOpensearch = (password?: string): Promise<FakeServer> => {
  const indexes = new Map<string, Index>();
  return fakeServer(({ method, path, body: json, lines, headers, query: parameters }) => {
    const auth = `Basic ${Buffer.from(`admin:${password}`).toString('base64')}`;
    if (password !== undefined && headers.authorization !== auth) return { status: 401, body: 'Unauthorized' };
    if (path === '/') return { body: { version: { distribution: 'opensearch', number: '3.3.0' } } };
    const [, name, what = ''] = path.split('/');
    const found = indexes.get(name);
    const call = `${method} ${what}`;
    if (call === 'PUT ') {
      if (found) return refused(400, 'resource_already_exists_exception', `index [${name}] already exists`);
      const body = json as Index & { settings: { index: { knn: boolean } } };
      if (!body.settings.index.knn) return refused(400, 'mapper_parsing_exception', 'knn is off');
      indexes.set(name, { mappings: body.mappings, documents: new Map() });
      return { body: { acknowledged: true, index: name } };
    }
    if (!found) return refused(404, 'index_not_found_exception', `no such index [${name}]`);
    if (call === 'GET _mapping') return { body: { [name]: { mappings: found.mappings } } };
    if (call === 'GET _count') return { body: { count: found.documents.size } };
    if (call === 'POST _bulk') return bulk(found, lines, parameters.get('refresh'));
    if (call !== 'POST _search') return refused(405, 'method', `${method} ${path}`);
    const { query, size = 10, _source } = json as { query: Query; size?: number; _source: string[] };
    if (size > 10_000) return refused(400, 'illegal_argument_exception', 'Result window is too large');
    const hits = [...found.documents.values()]
      .flatMap((d) => {
        const score = scoreOf(d, query);
        return score === undefined ? [] : [{ d, score }];
      })
      .sort((a, b) => b.score - a.score)
      .slice(0, Math.min(size, query.knn?.vector.k ?? size))
      .map(({ d, score }) => ({
        ...{ _index: name, _id: d.id, _score: score },
        _source: Object.fromEntries(Object.entries(d).filter(([field]) => _source.includes(field))),
      }));
    return { body: { hits: { total: { value: hits.length, relation: 'eq' }, hits } } };
  });
};

function bulk(index: Index, lines: readonly string[], refresh: string | null): Answered {
  if (refresh !== 'true') return refused(400, 'test', 'what is written must be seen');
  const items: object[] = [];
  for (let at = 0; at < lines.length; at++) {
    const action = JSON.parse(lines[at]) as { index?: { _id: string }; delete?: { _id: string } };
    if (action.delete) {
      const there = index.documents.delete(action.delete._id);
      items.push({ delete: { _id: action.delete._id, status: there ? 200 : 404 } });
      continue;
    }
    const id = action.index?._id as string;
    const source = JSON.parse(lines[++at]) as Source;
    if (source.vector.length !== index.mappings.properties.vector.dimension) {
      const error = { type: 'mapper_parsing_exception', reason: 'Vector dimension mismatch' };
      items.push({ index: { _id: id, status: 400, error } });
      continue;
    }
    index.documents.set(id, source);
    items.push({ index: { _id: id, status: 201 } });
  }
  return { body: { errors: items.some((i) => JSON.stringify(i).includes('"error"')), items } };
}

/** The score of a document by a query; undefined where it does not match. */
function scoreOf(d: Source, query: Query): number | undefined {
  const { bool, ids, term, match, match_all, knn, script_score } = query;
  if (bool) {
    if (!(bool.filter ?? []).every((f) => scoreOf(d, f) !== undefined)) return undefined;
    let sum = 0;
    for (const must of bool.must ?? []) {
      const score = scoreOf(d, must);
      if (score === undefined) return undefined;
      sum += score;
    }
    return sum;
  }
  if (match_all) return 1;
  if (ids) return ids.values.includes(d.id) ? 1 : undefined;
  if (term) return d.facets.includes(term.facets) ? 1 : undefined;
  if (match) {
    const words = d.terms.split(' ');
    const n = match.terms.split(' ').filter((t) => words.includes(t)).length;
    return n || undefined;
  }
  if (knn) {
    const { vector, filter } = knn.vector;
    return filter && scoreOf(d, filter) === undefined ? undefined : scored(dot(vector, d.vector));
  }
  if (script_score) {
    if (script_score.script.params.space_type !== 'innerproduct') throw new Error('space_type');
    if (scoreOf(d, script_score.query) === undefined) return undefined;
    return scored(dot(script_score.script.params.query_value, d.vector));
  }
  throw new Error(`a query that is not understood: ${JSON.stringify(query)}`);
}
