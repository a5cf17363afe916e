/** @file OpenSearch: a document each, a vector of its k-NN plugin, and the terms as a text that its own BM25 ranks. */
import type { Client } from '@opensearch-project/opensearch';
import { InputError, shown } from '../../common/errors.ts';
import {
  type EngineAddress,
  type EngineDocument,
  type EngineHit,
  type EngineRow,
  queryText,
  termsText,
  type VectorEngine,
} from './engine.ts';
import { type Attempts, attempt, httpFailure, needs, networkFailure, runsOf } from './failures.ts';
import { heldKey } from './held.ts';

/** What the k-NN plugin holds. */
const MOST_DIMENSIONS = 16_000;
/** The longest list of a search: index.max_result_window of a new index. */
const LONGEST = 10_000;
/** Bytes of a value of a keyword field. */
const MOST_KEYWORD = 32_000;
/** Bytes of an _id. */
const MOST_ID = 512;
const PORT = 9200;
const TIMEOUT = 60_000;
const SOURCE = ['id', 'text', 'metadata'];

interface Source {
  id: string;
  text: string;
  metadata?: string;
  hash: string;
}
interface SearchAnswer {
  hits: { hits: { _source: Source; _score: number }[] };
}

/**
 * @param address `opensearch://host:9200`, `opensearchs://` for https; `?exact=true` compares all vectors in place of the graph.
 *   Name and password come from OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD.
 * @throws InputError where the server cannot be reached or denies access
 */
export async function openOpensearch({ url, collection: index }: EngineAddress): Promise<VectorEngine> {
  const opensearch = await needs('@opensearch-project/opensearch', () => import('@opensearch-project/opensearch'));
  const exact = url.searchParams.get('exact') === 'true';
  const { OPENSEARCH_USERNAME: user = decodeURIComponent(url.username), OPENSEARCH_PASSWORD: password } = process.env;
  const name = `${url.protocol}//${url.host}#${index}`;
  const client: Client = new opensearch.Client({
    node: `${url.protocol === 'opensearchs:' ? 'https' : 'http'}://${url.hostname}:${url.port || PORT}`,
    ...(user && password !== undefined && { auth: { username: user, password } }),
    requestTimeout: TIMEOUT,
    // Attempts are counted here.
    maxRetries: 0,
  });
  const attempts: Attempts = {
    name,
    failure: (error) => {
      const { statusCode, name: kind, message } = error as { statusCode?: number; name: string; message: string };
      if (statusCode !== undefined) return httpFailure(statusCode);
      if (kind === 'TimeoutError') return 'passes';
      const known = networkFailure(error);
      return (
        known ??
        (/ECONNREFUSED|ENOTFOUND/.test(message)
          ? 'unreachable'
          : /ECONNRESET|socket hang up/.test(message)
            ? 'passes'
            : 'failed')
      );
    },
    keys: 'OPENSEARCH_USERNAME and OPENSEARCH_PASSWORD',
  };
  const call = <T>(method: string, path: string, body?: object, more: object = {}): Promise<T> =>
    attempt(attempts, async () => (await client.transport.request({ method, path, body, ...more })).body as T);
  const search = async (
    query: object,
    size: number,
    _source: string[] = SOURCE,
  ): Promise<SearchAnswer['hits']['hits']> =>
    size < 1
      ? []
      : (await call<SearchAnswer>('POST', `/${index}/_search`, { query, size: Math.min(size, LONGEST), _source })).hits
          .hits;
  const having = (facets: readonly string[]) => facets.map((facet) => ({ term: { facets: keptFacet(facet) } }));
  const byIds = (ids: readonly string[]) => ({ ids: { values: [...ids] } });
  /** Every vector that a filter lets through is compared. */
  const compared = (vector: Float32Array, filter: object[]) => ({
    script_score: {
      query: { bool: { filter: filter.length ? filter : [{ match_all: {} }] } },
      script: {
        source: 'knn_score',
        lang: 'knn',
        params: { field: 'vector', query_value: Array.from(vector), space_type: 'innerproduct' },
      },
    },
  });
  await call('GET', '/');

  return {
    name,
    finds: { nearest: exact ? 'exact' : 'approximate', matching: 'own' },
    holds: { idBytes: MOST_ID, zero: true },
    longest: LONGEST,
    async about() {
      const found = await attempt(attempts, async () => {
        const { body, statusCode } = await client.transport.request(
          { method: 'GET', path: `/${index}/_mapping` },
          { ignore: [404] },
        );
        return statusCode === 404
          ? undefined
          : (body as Record<string, { mappings?: { _meta?: { about?: unknown } } }>);
      });
      if (!found) return undefined;
      const about = Object.values(found)[0]?.mappings?._meta?.about;
      if (typeof about === 'string') return about;
      throw new InputError({
        code: 'engine.foreign',
        subject: `${name} is an index that distill index did not make`,
        remedy: 'choose another --collection',
      });
    },
    async create(about, dimensions) {
      if (dimensions > MOST_DIMENSIONS)
        throw new InputError({
          code: 'engine.dimensions',
          subject: `vectors of ${dimensions} numbers`,
          expected: `at most ${MOST_DIMENSIONS}, what OpenSearch holds`,
        });
      await call('PUT', `/${index}`, {
        settings: { index: { knn: true } },
        mappings: {
          _meta: { about },
          dynamic: false,
          properties: {
            id: { type: 'keyword' },
            hash: { type: 'keyword', index: false },
            facets: { type: 'keyword' },
            terms: { type: 'text', analyzer: 'whitespace' },
            // Kept as they are, not looked into.
            text: { type: 'text', index: false },
            metadata: { type: 'text', index: false },
            vector: {
              type: 'knn_vector',
              dimension: dimensions,
              method: { name: 'hnsw', engine: 'faiss', space_type: 'innerproduct' },
            },
          },
        },
      });
    },
    size: async () => (await call<{ count: number }>('GET', `/${index}/_count`)).count,
    async hashes(ids) {
      const found = await search(byIds(ids), ids.length, ['id', 'hash']);
      return new Map(found.map(({ _source }) => [_source.id, _source.hash]));
    },
    async put(rows) {
      for (const run of runsOf(rows.map(recordOf), (r) => JSON.stringify(r).length)) {
        const lines = run.flatMap((row) => [JSON.stringify({ index: { _id: row.id } }), JSON.stringify(row)]);
        await bulk(lines);
      }
    },
    async remove(ids) {
      const there = await search(byIds(ids), ids.length, ['id']);
      if (there.length) await bulk(there.map(({ _source }) => JSON.stringify({ delete: { _id: _source.id } })));
      return there.length;
    },
    get: async (ids) => (await search(byIds(ids), ids.length)).map(({ _source }) => documentOf(_source)),
    async nearest(vector, { k, facets }) {
      const filter = having(facets);
      const query = exact
        ? compared(vector, filter)
        : {
            knn: {
              vector: {
                vector: Array.from(vector),
                k: Math.min(k, LONGEST),
                ...(filter.length && { filter: { bool: { filter } } }),
              },
            },
          };
      return (await search(query, k)).map(({ _source, _score }) => hit(_source, product(_score)));
    },
    async matching(terms, { k, facets }) {
      if (!terms.terms.length) return [];
      const query = { bool: { must: [{ match: { terms: queryText(terms) } }], filter: having(facets) } };
      return (await search(query, k)).map(({ _source, _score }) => hit(_source, _score));
    },
    async products(vector, ids) {
      const found = await search(compared(vector, [byIds(ids)]), ids.length, ['id']);
      return new Map(found.map(({ _source, _score }) => [_source.id, product(_score)]));
    },
    async settle() {},
    close: () => client.close(),
  };

  /** @throws FaultError where a line was refused */
  async function bulk(lines: readonly string[]): Promise<void> {
    await attempt(attempts, async () => {
      const { body } = await client.transport.request({
        ...{ method: 'POST', path: `/${index}/_bulk`, querystring: { refresh: 'true' } },
        bulkBody: `${lines.join('\n')}\n`,
      });
      const { errors, items } = body as {
        errors: boolean;
        items: Record<string, { _id: string; status: number; error?: { reason?: string } }>[];
      };
      if (!errors) return;
      const worst = items.flatMap((i) => Object.values(i)).filter((i) => i.error);
      const hard = worst.find((i) => httpFailure(i.status) !== 'passes') ?? worst[0];
      throw Object.assign(
        new Error(`the document '${shown(hard._id)}' was refused: ${hard.error?.reason ?? `status ${hard.status}`}`),
        { statusCode: hard.status },
      );
    });
  }
}

/** OpenSearch's score of an inner product p is p + 1 from 0 on, and 1 / (1 - p) below. */
const product = (score: number): number => (score >= 1 ? score - 1 : 1 - 1 / score);

const keptFacet = (facet: string): string => heldKey(facet, MOST_KEYWORD);

const recordOf = ({ id, text, metadata, facets, hash, vector, terms }: EngineRow) => ({
  ...{ id, text, facets: facets.map(keptFacet), hash, terms: termsText(terms), vector: Array.from(vector) },
  ...(metadata !== undefined && { metadata: JSON.stringify(metadata) }),
});

const documentOf = ({ id, text, metadata }: Source): EngineDocument => ({
  id,
  text,
  ...(metadata !== undefined && { metadata: JSON.parse(metadata) }),
});

const hit = (source: Source, score: number): EngineHit => ({ document: documentOf(source), score });
