/** @file LanceDB, embedded: a table in a folder or an object store. Vectors are compared exactly, terms by LanceDB's own BM25. */
import type { Connection, Table } from '@lancedb/lancedb';
import { shown } from '../../common/errors.ts';
import {
  type EngineAddress,
  type EngineDocument,
  type EngineHit,
  type EngineRow,
  queryText,
  termsText,
  type VectorEngine,
} from './engine.ts';
import { type Attempts, attempt, needs } from './failures.ts';

/** Documents in one condition `id in (...)`. */
const IDS = 512;
/** Rows from which ids and terms are worth an index of LanceDB's. */
const WORTH_AN_INDEX = 10_000;

interface Found {
  id: string;
  text: string;
  metadata: string | null;
  hash: string;
  _distance: number;
  _score: number;
}

/** @param address `lancedb:PATH`, or `lancedb:s3://bucket/path` with the object store's keys in the environment */
export async function openLancedb({ url, collection }: EngineAddress): Promise<VectorEngine> {
  // Its log tells of every table that is new.
  process.env.LANCE_LOG ??= 'error';
  const lancedb = await needs('@lancedb/lancedb', () => import('@lancedb/lancedb'));
  const place = decodeURI(url.href.slice('lancedb:'.length));
  const name = `lancedb:${place}#${collection}`;
  const attempts: Attempts = {
    name,
    // Two writers at a time: the later one begins again from what the first wrote.
    failure: (error) => (/commit conflict|concurrent/i.test((error as Error).message) ? 'passes' : 'failed'),
    keys: 'the keys of the object store (AWS_ACCESS_KEY_ID, ...)',
  };
  const run = <T>(work: () => Promise<T>): Promise<T> => attempt(attempts, work);
  const connection: Connection = await run(() => lancedb.connect(place));
  const ABOUT = `${collection}_about`;
  let opened: Table | undefined;
  const table = async (): Promise<Table> => {
    opened ??= await connection.openTable(collection);
    return opened;
  };
  const columns = ['id', 'text', 'metadata'];
  const read = async (condition: string, names: readonly string[]): Promise<Found[]> =>
    (await (
      await table()
    )
      .query()
      .where(condition)
      .select([...names])
      .toArray()) as Found[];

  return {
    name,
    finds: { nearest: 'exact', matching: 'own' },
    holds: { zero: true },
    longest: Number.POSITIVE_INFINITY,
    about: () =>
      run(async () => {
        const names = await connection.tableNames();
        // The description is written last: a table without it was cut off, or is someone else's.
        if (!names.includes(ABOUT)) return undefined;
        const [found] = (await (await connection.openTable(ABOUT)).query().toArray()) as { about: string }[];
        return found?.about;
      }),
    create: (about, dimensions) =>
      run(async () => {
        // Types follow from a first row, whatever version of Arrow LanceDB has; without the description the table does not count yet.
        const first = { id: '', text: '', hash: '', terms: '', metadata: '', facets: [''] };
        const vector = Array<number>(dimensions).fill(0);
        opened = await connection.createTable(collection, [{ ...first, vector }], { mode: 'overwrite' });
        await opened.delete('true');
        await opened.createIndex('terms', { config: lancedb.Index.fts(termsAsWritten) });
        await connection.createTable(ABOUT, [{ about }], { mode: 'overwrite' });
      }),
    size: () => run(async () => (await table()).countRows()),
    hashes: (ids) =>
      run(async () => {
        const found = new Map<string, string>();
        for (const condition of conditions(ids))
          for (const { id, hash } of await read(condition, ['id', 'hash'])) found.set(id, hash);
        return found;
      }),
    put: (rows) =>
      run(async () => {
        if (!rows.length) return;
        const { type } = (await (await table()).schema()).fields.find((f) => f.name === 'vector') ?? {};
        const width = (type as { listSize?: number } | undefined)?.listSize;
        // LanceDB would cut a longer vector.
        const wide = rows.find((r) => r.vector.length !== width);
        if (wide)
          throw new Error(
            `a vector of ${wide.vector.length} numbers where the table has ${width} ('${shown(wide.id)}')`,
          );
        await (await table())
          .mergeInsert('id')
          .whenMatchedUpdateAll()
          .whenNotMatchedInsertAll()
          .execute(rows.map(recordOf));
      }),
    remove: (ids) =>
      run(async () => {
        let removed = 0;
        for (const condition of conditions(ids)) {
          removed += await (await table()).countRows(condition);
          await (await table()).delete(condition);
        }
        return removed;
      }),
    get: (ids) =>
      run(async () => {
        const found: EngineDocument[] = [];
        for (const condition of conditions(ids))
          for (const row of await read(condition, columns)) found.push(documentOf(row));
        return found;
      }),
    nearest: (vector, { k, facets }) =>
      run(async () => {
        let query = (await table()).query().nearestTo(vector).distanceType('dot').bypassVectorIndex();
        const condition = having(facets);
        if (condition) query = query.where(condition);
        const found = (await query
          .select([...columns, '_distance'])
          .limit(k)
          .toArray()) as Found[];
        return found.map((f): EngineHit => ({ document: documentOf(f), score: 1 - f._distance }));
      }),
    matching: (terms, { k, facets }) =>
      run(async () => {
        if (!terms.terms.length) return [];
        let query = (await table()).query().fullTextSearch(queryText(terms), { columns: ['terms'] });
        const condition = having(facets);
        if (condition) query = query.where(condition);
        const found = (await query
          .select([...columns, '_score'])
          .limit(k)
          .toArray()) as Found[];
        return found.map((f): EngineHit => ({ document: documentOf(f), score: f._score }));
      }),
    products: (vector, ids) =>
      run(async () => {
        const products = new Map<string, number>();
        for (const condition of conditions(ids)) {
          const query = (await table()).query().nearestTo(vector).distanceType('dot').bypassVectorIndex();
          const found = await query.where(condition).select(['id', '_distance']).limit(IDS).toArray();
          for (const { id, _distance } of found as Found[]) products.set(id, 1 - _distance);
        }
        return products;
      }),
    settle: () =>
      run(async () => {
        const written = await table();
        if ((await written.countRows()) >= WORTH_AN_INDEX)
          await written.createIndex('id', { config: lancedb.Index.btree() });
        await written.optimize();
      }),
    async close() {
      opened?.close();
      connection.close();
    },
  };
}

/** Terms were analysed by the index: LanceDB takes each as it is. */
const termsAsWritten = {
  baseTokenizer: 'whitespace',
  lowercase: false,
  stem: false,
  removeStopWords: false,
  asciiFolding: false,
  withPosition: false,
  maxTokenLength: 1000,
} as const;

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;

/** Conditions that name all ids, some at a time. */
function* conditions(ids: readonly string[]): Generator<string> {
  for (let at = 0; at < ids.length; at += IDS)
    yield `id IN (${ids
      .slice(at, at + IDS)
      .map(quoted)
      .join(', ')})`;
}

const having = (facets: readonly string[]): string =>
  facets.map((facet) => `array_has(facets, ${quoted(facet)})`).join(' AND ');

const recordOf = ({ id, text, metadata, hash, facets, terms, vector }: EngineRow): Record<string, unknown> => ({
  id,
  text,
  hash,
  terms: termsText(terms),
  metadata: metadata === undefined ? null : JSON.stringify(metadata),
  facets: [...facets],
  vector: Array.from(vector),
});

const documentOf = ({ id, text, metadata }: Found): EngineDocument => ({
  id,
  text,
  ...(metadata !== null && { metadata: JSON.parse(metadata) }),
});
