/** @file What Qdrant's REST interface answers (https://api.qdrant.tech), as far as the client is used: points in memory. */
import { type Answered, dot, type FakeServer, fakeServer } from './http-server.ts';

interface Point {
  id: string;
  vector: { dense: number[]; lexical: { indices: number[]; values: number[] } };
  payload: Record<string, unknown> & { facets: string[] };
}
interface Filter {
  must: { key?: string; match?: { value: string }; has_id?: string[] }[];
}
interface Collection {
  config: { params: object; metadata?: object };
  size: number;
  points: Map<string, Point>;
}

const ok = (result: unknown): Answered => ({ body: { result, status: 'ok', time: 0.001 } });
const refused = (status: number, error: string): Answered => ({ status, body: { status: { error }, time: 0 } });
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/;

export const fakeQdrant = (key?: string): Promise<FakeServer> => {
  const collections = new Map<string, Collection>();
  return fakeServer(({ method, path, body: json, headers }) => {
    if (key !== undefined && headers['api-key'] !== key) return refused(403, 'Invalid API key or JWT');
    const [, root, name, ...rest] = path.split('/');
    if (root !== 'collections') return refused(404, `no such path ${path}`);
    if (name === undefined) return ok({ collections: [...collections.keys()].map((n) => ({ name: n })) });
    const found = collections.get(name);
    const body = json as Record<string, never>;
    const what = `${method} ${rest.join('/')}`;
    if (what === 'GET exists') return ok({ exists: Boolean(found) });
    if (what === 'PUT ') {
      if (found) return refused(409, `Wrong input: Collection \`${name}\` already exists!`);
      const { vectors, sparse_vectors, metadata } = body as unknown as {
        vectors: { dense: { size: number; distance: string } };
        sparse_vectors: { lexical: object };
        metadata?: object;
      };
      if (vectors.dense.distance !== 'Dot' || !sparse_vectors.lexical) return refused(400, 'unexpected vectors');
      const config = { params: { vectors, sparse_vectors }, metadata };
      collections.set(name, { config, size: vectors.dense.size, points: new Map() });
      return ok(true);
    }
    if (!found) return refused(404, `Not found: Collection \`${name}\` doesn't exist!`);
    const passes = ({ id, payload }: Point, filter?: Filter): boolean =>
      (filter?.must ?? []).every(
        (m) => m.has_id?.includes(id) ?? (m.key === 'facets' && payload.facets.includes(m.match?.value as string)),
      );
    const shown = ({ payload }: Point, fields: string[]): object =>
      Object.fromEntries(Object.entries(payload).filter(([field]) => fields.includes(field)));
    switch (what) {
      case 'GET ':
        return ok({ status: 'green', config: found.config, points_count: found.points.size });
      case 'PUT index':
        return ok({ operation_id: 1, status: 'completed' });
      case 'PUT points':
        for (const point of (body as unknown as { points: Point[] }).points) {
          if (!UUID.test(point.id)) return refused(400, `value ${point.id} is not a valid point ID`);
          if (point.vector.dense.length !== found.size) return refused(400, 'Wrong input: Vector dimension error');
          if (new Set(point.vector.lexical.indices).size !== point.vector.lexical.indices.length)
            return refused(422, 'indices must be unique');
          found.points.set(point.id, point);
        }
        return ok({ operation_id: 2, status: 'completed' });
      case 'POST points/delete':
        for (const id of (body as unknown as { points: string[] }).points) found.points.delete(id);
        return ok({ operation_id: 3, status: 'completed' });
      case 'POST points/count':
        return ok({ count: found.points.size });
      case 'POST points': {
        const { ids, with_payload } = body as unknown as { ids: string[]; with_payload: string[] };
        const points = ids.flatMap((id) => found.points.get(id) ?? []);
        return ok(points.map((p) => ({ id: p.id, payload: shown(p, with_payload) })));
      }
      case 'POST points/query': {
        const { query, using, limit, filter, with_payload } = body as unknown as {
          query: number[] | Point['vector']['lexical'];
          using: 'dense' | 'lexical';
          limit: number;
          filter?: Filter;
          with_payload: string[];
        };
        const score = ({ vector }: Point): number => {
          if (Array.isArray(query)) return Math.fround(dot(query, vector[using] as number[]));
          const own = new Map(vector.lexical.indices.map((t, i) => [t, vector.lexical.values[i]]));
          return query.indices.reduce((s, t, i) => s + query.values[i] * (own.get(t) ?? 0), 0);
        };
        const points = [...found.points.values()]
          .filter((p) => passes(p, filter))
          .map((p) => ({ id: p.id, version: 1, score: score(p), payload: shown(p, with_payload) }))
          .filter((p) => using === 'dense' || p.score > 0)
          .sort((a, b) => b.score - a.score)
          .slice(0, limit);
        return ok({ points });
      }
      default:
        return refused(404, `no such path ${method} ${path}`);
    }
  });
};
