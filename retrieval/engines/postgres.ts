/** @file Postgres with pgvector: one row a document. Vectors are compared exactly, terms are added up by their weights in SQL. */
import type { Pool } from 'pg';
import { InputError } from '../../common/errors.ts';
import type { EngineAddress, EngineDocument, EngineHit, EngineRow, VectorEngine } from './engine.ts';
import { type Attempts, attempt, codesOf, type Failure, needs, networkFailure, runsOf } from './failures.ts';
import { heldKey, heldText } from './held.ts';

/** What pgvector holds. */
const MOST_DIMENSIONS = 16_000;
/** Bytes of an entry of an index: a B-tree holds 2704, a GIN index 2712, with their headers. */
const MOST_KEY = 2600;
const CONNECT_WITHIN = 10_000;
const CONNECTIONS = 4;

interface Found {
  id: string;
  text: string;
  metadata: string | null;
  score: number;
}

/** Classes and codes of SQLSTATE: the connection broke, the server starts or ends, too many connections, a conflict of transactions. */
const passing = /^(08|57P0|53300|40001|40P01)/;
const denied = new Set(['28P01', '28000', '42501', 'SASL']);

function failureOf(error: unknown): Failure {
  const network = networkFailure(error);
  if (network) return network;
  const codes = codesOf(error);
  const { message } = error as Error;
  if (codes.some((c) => denied.has(c)) || /password must be a string|no password/i.test(message)) return 'denied';
  return codes.some((c) => passing.test(c)) || /Connection terminated|timeout exceeded/i.test(message)
    ? 'passes'
    : 'failed';
}

/** @throws InputError where the server cannot be reached or denies access */
export async function openPostgres({ url, collection }: EngineAddress): Promise<VectorEngine> {
  const { default: pg } = await needs('pg', () => import('pg'));
  const pool: Pool = new pg.Pool({
    connectionString: url.href,
    max: CONNECTIONS,
    connectionTimeoutMillis: CONNECT_WITHIN,
    // A process that has nothing else to do ends.
    allowExitOnIdle: true,
  });
  // An idle connection that breaks is replaced by the next query.
  pool.on('error', () => {});
  const name = `${url.protocol}//${url.host}${url.pathname}#${collection}`;
  const attempts: Attempts = { name, failure: failureOf, keys: 'PGUSER and PGPASSWORD' };
  const rows = <R>(text: string, values: unknown[] = []): Promise<R[]> =>
    attempt(attempts, async () => (await pool.query({ text, values })).rows as R[]);
  const table = `"${collection}"`;
  const close = (): Promise<void> => pool.end();
  try {
    await rows('select 1');
  } catch (error) {
    await close();
    throw error;
  }
  return {
    name,
    finds: { nearest: 'exact', matching: 'exact' },
    holds: { idBytes: MOST_KEY, zero: false },
    longest: Number.POSITIVE_INFINITY,
    async about() {
      const [found] = await rows<{ about: string | null }>(
        "select obj_description(to_regclass($1), 'pg_class') as about from (select to_regclass($1) as c) t where c is not null",
        [table],
      );
      if (found && found.about === null)
        throw new InputError({
          code: 'engine.foreign',
          subject: `${name} is a table that distill index did not make`,
          remedy: 'choose another --collection',
        });
      return found?.about ?? undefined;
    },
    async create(about, dimensions) {
      if (dimensions > MOST_DIMENSIONS)
        throw new InputError({
          code: 'engine.dimensions',
          subject: `vectors of ${dimensions} numbers`,
          expected: `at most ${MOST_DIMENSIONS}, what pgvector holds`,
        });
      const [{ there }] = await rows<{ there: boolean }>(
        "select exists (select from pg_available_extensions where name = 'vector') as there",
      );
      if (!there)
        throw new InputError({
          code: 'engine.extension',
          subject: `${name} has no pgvector`,
          remedy: 'install the extension vector on the server',
        });
      // Statements of one query without values are one transaction: the table is there with its comment, or is not.
      await rows(
        [
          'create extension if not exists vector',
          `create table ${table} (id text primary key, text text not null, metadata json, facets text[] not null, hash text not null, terms text[] not null, weights real[] not null, vector vector(${dimensions}) not null)`,
          `create index on ${table} using gin (terms)`,
          `create index on ${table} using gin (facets)`,
          `comment on table ${table} is ${literal(about)}`,
        ].join(';\n'),
      );
    },
    async size() {
      const [{ n }] = await rows<{ n: string }>(`select count(*) as n from ${table}`);
      return Number(n);
    },
    async hashes(ids) {
      const found = await rows<{ id: string; hash: string }>(
        `select id, hash from ${table} where id = any($1::text[])`,
        [ids],
      );
      return new Map(found.map(({ id, hash }) => [id, hash]));
    },
    async put(all) {
      for (const run of runsOf(all, (r) => r.vector.length * 14 + r.text.length + r.terms.terms.length * 30))
        await rows(
          `insert into ${table} select r.id, r.text, r.metadata::json, r.facets, r.hash, r.terms, r.weights, r.vector::vector
           from json_to_recordset($1::json) as r(id text, text text, metadata text, facets text[], hash text, terms text[], weights real[], vector text)
           on conflict (id) do update set text = excluded.text, metadata = excluded.metadata, facets = excluded.facets,
           hash = excluded.hash, terms = excluded.terms, weights = excluded.weights, vector = excluded.vector`,
          [JSON.stringify(run.map(recordOf))],
        );
    },
    async remove(ids) {
      return (await rows(`delete from ${table} where id = any($1::text[]) returning 1`, [ids])).length;
    },
    async get(ids) {
      const found = await rows<Found>(
        `select id, text, metadata::text as metadata from ${table} where id = any($1::text[])`,
        [ids],
      );
      return found.map(documentOf);
    },
    async nearest(vector, { k, facets }) {
      const found = await rows<Found>(
        `select id, text, metadata::text as metadata, -(vector <#> $1::vector) as score from ${table}
         where facets @> $2::text[] order by vector <#> $1::vector limit $3`,
        [vectorText(vector), facets.map(kept), k],
      );
      return found.map(hitOf);
    },
    async matching({ terms, weights }, { k, facets }) {
      const found = await rows<Found>(
        `select d.id, d.text, d.metadata::text as metadata, s.score from ${table} d cross join lateral
         (select sum(t.weight::float8 * q.weight) as score from unnest(d.terms, d.weights) t(term, weight)
          join unnest($1::text[], $2::float8[]) q(term, weight) on t.term = q.term) s
         where d.terms && $1::text[] and d.facets @> $3::text[] order by s.score desc, d.id limit $4`,
        [terms.map(kept), weights, facets.map(kept), k],
      );
      return found.map(hitOf);
    },
    async products(vector, ids) {
      const found = await rows<{ id: string; score: number }>(
        `select id, -(vector <#> $1::vector) as score from ${table} where id = any($2::text[])`,
        [vectorText(vector), ids],
      );
      return new Map(found.map(({ id, score }) => [id, score]));
    },
    async settle() {
      await rows(`analyze ${table}`);
    },
    close,
  };
}

/** A term or a facet, of a query alike. */
const kept = (text: string): string => heldKey(heldText(text, false), MOST_KEY);
const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`;
const vectorText = (vector: Float32Array): string => `[${vector.join(',')}]`;

const recordOf = ({ vector, terms: { terms, weights }, metadata, ...row }: EngineRow): object => ({
  ...row,
  text: heldText(row.text, false),
  facets: row.facets.map(kept),
  // As a text within the text: the server does not read its escapes, and keeps all that JSON can hold.
  metadata: metadata === undefined ? null : JSON.stringify(metadata),
  terms: terms.map(kept),
  weights,
  vector: vectorText(vector),
});

const documentOf = ({ id, text, metadata }: Omit<Found, 'score'>): EngineDocument => ({
  id,
  text,
  ...(metadata !== null && { metadata: JSON.parse(metadata) }),
});
const hitOf = (found: Found): EngineHit => ({ document: documentOf(found), score: found.score });
