/** @file Qdrant over HTTP: a point a document, a dense vector and a sparse one of its term weights. */
import { createHash } from 'node:crypto';
import type { QdrantClient } from '@qdrant/js-client-rest';
import { InputError } from '../../common/errors.ts';
import type { EngineAddress, EngineDocument, EngineHit, EngineRow, VectorEngine } from './engine.ts';
import { type Attempts, attempt, httpFailure, needs, networkFailure, runsOf } from './failures.ts';
import type { TermWeights } from './term-weights.ts';

const DENSE = 'dense';
const LEXICAL = 'lexical';
/** What Qdrant holds. */
const MOST_DIMENSIONS = 65_536;
const PORT = 6333;
/** Milliseconds a request. */
const TIMEOUT = 60_000;

interface Payload {
  id: string;
  text: string;
  metadata?: unknown;
  hash: string;
}

/**
 * @param address `qdrant://host:6333`, `qdrants://` for https; `?exact=true` compares all vectors in place of Qdrant's graph.
 *   The key comes from QDRANT_API_KEY.
 * @throws InputError where the server cannot be reached or denies access
 */
export async function openQdrant({ url, collection }: EngineAddress): Promise<VectorEngine> {
  const { QdrantClient: Client } = await needs('@qdrant/js-client-rest', () => import('@qdrant/js-client-rest'));
  const exact = url.searchParams.get('exact') === 'true';
  const name = `${url.protocol}//${url.host}#${collection}`;
  const client: QdrantClient = new Client({
    host: url.hostname,
    port: Number(url.port || PORT),
    https: url.protocol === 'qdrants:',
    apiKey: process.env.QDRANT_API_KEY,
    timeout: TIMEOUT,
    checkCompatibility: false,
  });
  const attempts: Attempts = {
    name,
    failure: (error) =>
      networkFailure(error) ??
      ((error as Error).name === 'QdrantClientTimeoutError' ? 'passes' : httpFailure(statusOf(error))),
    said: (error) => {
      const { data, message } = error as { data?: { status?: { error?: string } }; message: string };
      return data?.status?.error ?? message;
    },
    keys: 'QDRANT_API_KEY',
  };
  const run = <T>(work: () => Promise<T>): Promise<T> => attempt(attempts, work);
  const filterOf = (facets: readonly string[]) =>
    facets.length ? { must: facets.map((value) => ({ key: 'facets', match: { value } })) } : undefined;
  const read = async (ids: readonly string[], payload: string[]): Promise<Payload[]> => {
    const found = await client.retrieve(collection, {
      ids: ids.map(pointId),
      with_payload: payload,
      with_vector: false,
    });
    return found.map((p) => p.payload as unknown as Payload);
  };
  await run(() => client.getCollections());

  return {
    name,
    finds: { nearest: exact ? 'exact' : 'approximate', matching: 'own' },
    holds: { zero: true },
    longest: Number.POSITIVE_INFINITY,
    about: () =>
      run(async () => {
        if (!(await client.collectionExists(collection)).exists) return undefined;
        const { config } = await client.getCollection(collection);
        const about = (config as { metadata?: { about?: unknown } | null }).metadata?.about;
        if (typeof about === 'string') return about;
        throw new InputError({
          code: 'engine.foreign',
          subject: `${name} is a collection that distill index did not make, or the server keeps no metadata of collections`,
          remedy: 'choose another --collection, or use Qdrant 1.16 or later',
        });
      }),
    create: async (about, dimensions) => {
      if (dimensions > MOST_DIMENSIONS)
        throw new InputError({
          code: 'engine.dimensions',
          subject: `vectors of ${dimensions} numbers`,
          expected: `at most ${MOST_DIMENSIONS}, what Qdrant holds`,
        });
      await run(() =>
        // The client's own createCollection leaves metadata out.
        client.api().createCollection({
          collection_name: collection,
          vectors: { [DENSE]: { size: dimensions, distance: 'Dot' } },
          sparse_vectors: { [LEXICAL]: {} },
          metadata: { about },
        }),
      );
      await run(() =>
        client.createPayloadIndex(collection, { field_name: 'facets', field_schema: 'keyword', wait: true }),
      );
    },
    size: () => run(async () => (await client.count(collection, { exact: true })).count),
    hashes: (ids) => run(async () => new Map((await read(ids, ['id', 'hash'])).map(({ id, hash }) => [id, hash]))),
    async put(rows) {
      for (const points of runsOf(rows.map(pointOf), (p) => JSON.stringify(p).length))
        await run(() => client.upsert(collection, { wait: true, points }));
    },
    remove: (ids) =>
      run(async () => {
        const there = await read(ids, ['id']);
        if (there.length) await client.delete(collection, { wait: true, points: there.map(({ id }) => pointId(id)) });
        return there.length;
      }),
    get: (ids) => run(async () => (await read(ids, ['id', 'text', 'metadata'])).map(documentOf)),
    nearest: (vector, { k, facets }) =>
      run(async () => {
        const { points } = await client.query(collection, {
          ...{ query: Array.from(vector), using: DENSE, limit: k, with_payload: ['id', 'text', 'metadata'] },
          filter: filterOf(facets),
          params: { exact },
        });
        return points.map(hitOf);
      }),
    matching: (terms, { k, facets }) =>
      run(async () => {
        if (!terms.terms.length) return [];
        const { points } = await client.query(collection, {
          ...{ query: sparse(terms), using: LEXICAL, limit: k, with_payload: ['id', 'text', 'metadata'] },
          filter: filterOf(facets),
        });
        return points.map(hitOf);
      }),
    products: (vector, ids) =>
      run(async () => {
        if (!ids.length) return new Map();
        const { points } = await client.query(collection, {
          ...{ query: Array.from(vector), using: DENSE, limit: ids.length, with_payload: ['id'] },
          filter: { must: [{ has_id: ids.map(pointId) }] },
          params: { exact: true },
        });
        return new Map(points.map(({ payload, score }) => [(payload as unknown as Payload).id, score]));
      }),
    async settle() {},
    async close() {},
  };
}

const statusOf = (error: unknown): number | undefined => {
  const { status } = error as { status?: unknown };
  return typeof status === 'number'
    ? status
    : (error as Error).name === 'QdrantClientResourceExhaustedError'
      ? 429
      : undefined;
};

/** Points are named by UUIDs: one of the document's id, so that a document that is written twice is there once. */
export function pointId(id: string): string {
  const hex = createHash('sha256').update(id).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** Terms by 32 bits of a hash. Two terms of one hash add up; candidates alone are found by it, their scores are computed of the texts. */
function sparse({ terms, weights }: TermWeights): { indices: number[]; values: number[] } {
  const values = new Map<number, number>();
  for (const [i, term] of terms.entries()) {
    const index = createHash('sha256').update(term).digest().readUInt32LE(0);
    values.set(index, (values.get(index) ?? 0) + weights[i]);
  }
  return { indices: [...values.keys()], values: [...values.values()] };
}

const pointOf = ({ id, text, metadata, facets, hash, vector, terms }: EngineRow) => ({
  id: pointId(id),
  vector: { [DENSE]: Array.from(vector), [LEXICAL]: sparse(terms) },
  payload: { id, text, facets: [...facets], hash, ...(metadata !== undefined && { metadata }) },
});

const documentOf = ({ id, text, metadata }: Payload): EngineDocument => ({
  id,
  text,
  ...(metadata !== undefined && { metadata }),
});

const hitOf = ({ payload, score }: { payload?: unknown; score: number }): EngineHit => ({
  document: documentOf(payload as Payload),
  score,
});
