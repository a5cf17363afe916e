/** @file Every engine by the scheme of its address. Another one is a file next to these and a line here. */
import { resolve } from 'node:path';
import { InputError } from '../../common/errors.ts';
import type { EngineAddress, VectorEngine } from './engine.ts';

/** Loaded when it is asked for: its client is an optional package. */
type Open = (address: EngineAddress) => Promise<VectorEngine>;

const postgres: Open = async (address) => (await import('./postgres.ts')).openPostgres(address);
const qdrant: Open = async (address) => (await import('./qdrant.ts')).openQdrant(address);
const opensearch: Open = async (address) => (await import('./opensearch.ts')).openOpensearch(address);

export const engines: Readonly<Record<string, Open>> = {
  'postgres:': postgres,
  'postgresql:': postgres,
  'lancedb:': async (address) => (await import('./lancedb.ts')).openLancedb(address),
  'qdrant:': qdrant,
  'qdrants:': qdrant,
  'opensearch:': opensearch,
  'opensearchs:': opensearch,
};

export const DEFAULT_COLLECTION = 'documents';
const SECRET = /pass|secret|token|key/i;

/**
 * An address as it may be kept: whole paths, and no secret.
 * @throws InputError for an address of no known scheme, one with a secret, or a collection whose name not every engine takes
 */
export function readAddress(address: string, collection = DEFAULT_COLLECTION): EngineAddress {
  const fail = (subject: string, expected: string, remedy: string): never => {
    throw new InputError({ code: 'engine.address', subject, expected, remedy });
  };
  const place = /^lancedb:(?!\/\/)(.+)$/.exec(address)?.[1];
  // A path stays a path: only whole addresses of object stores have slashes of their own.
  const whole = place && !/^[a-z][a-z0-9+]*:\/\//.test(place) ? `lancedb:${encodeURI(resolve(place))}` : address;
  const url = URL.canParse(whole) ? new URL(whole) : undefined;
  if (!url || !Object.hasOwn(engines, url.protocol))
    return fail(
      `the engine '${address.replace(/\/\/[^@/]*@/, '//')}'`,
      `an address that begins with one of ${Object.keys(engines).join(' ')}`,
      'for example postgres://user@127.0.0.1:5432/database or lancedb:indexes/lance',
    );
  const hidden = [...url.searchParams.keys()].find((name) => SECRET.test(name));
  if (url.password || hidden)
    fail(
      `the address of the engine at ${url.host} holds a ${hidden ?? 'password'}`,
      'an address without a secret, since it is kept in a file',
      'set PGPASSWORD, QDRANT_API_KEY or OPENSEARCH_PASSWORD in the environment',
    );
  if (!/^[a-z][a-z0-9_]{0,39}$/.test(collection))
    fail(
      `the collection '${collection}'`,
      'at most 40 small letters, digits and _, a letter first',
      'choose another --collection',
    );
  return { url, collection };
}

/** @throws InputError where the engine cannot be reached, denies access, or its client is not installed */
export const openEngine = (address: EngineAddress): Promise<VectorEngine> => engines[address.url.protocol](address);

/** How an address is shown and kept. */
export const addressText = ({ url }: EngineAddress): string =>
  url.protocol === 'lancedb:' ? `lancedb:${decodeURI(url.href.slice('lancedb:'.length))}` : url.href;
