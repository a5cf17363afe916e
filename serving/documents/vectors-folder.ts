/** @file The vectors of an index folder: laid out with the index, and read whole while another process writes. */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { IndexStore } from '../../retrieval/store/store.ts';
import type { IndexSettings } from '../../retrieval/vector-index.ts';

/** What a description says of the store next to it. */
export interface StoredAs {
  readonly id: string;
  /** Of the encoder of documents. */
  readonly key: string;
  /** Width of the vectors; 0 where there are postings alone. */
  readonly dimensions: number;
  /** What its postings are of, where it has some. */
  readonly terms?: string;
}

export const VECTORS = 'vectors';
const RETRIES = 3;

/** Lays the vectors out, before the description makes the folder an index. */
export async function createStore(
  folder: string,
  { id, key, dimensions, settings, terms }: StoredAs & { settings?: IndexSettings },
): Promise<void> {
  const vectors = join(folder, VECTORS);
  for (const name of (await unused(folder)) ?? []) await rm(join(vectors, name), { force: true });
  await IndexStore.create(vectors, { dimensions, settings, encoder: key, id, terms });
}

/**
 * Files of vectors that a start which was cut off laid out, and to which nothing was added.
 * @returns undefined where there is anything else in that folder
 */
export async function unused(folder: string): Promise<string[] | undefined> {
  const vectors = join(folder, VECTORS);
  const names = await readdir(vectors).catch(() => undefined);
  if (!names?.every((name) => name === 'index.json' || /^index\.json\.\d+\.part$/.test(name))) return undefined;
  return !names.includes('index.json') || (await readFile(join(vectors, 'index.json'), 'utf8')).includes('"parts":[]')
    ? names
    : undefined;
}

/** The manifest's text: another text, other documents. @throws InputError where it is missing */
export async function manifestOf(folder: string): Promise<string> {
  const file = join(folder, VECTORS, 'index.json');
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    if (!['ENOENT', 'ENOTDIR'].includes((cause as NodeJS.ErrnoException).code ?? '')) throw cause;
    throw damaged(`${file}, which says where the vectors and documents of the index are, is missing`, cause);
  }
}

const damaged = (subject: string, cause?: unknown): InputError =>
  new InputError({
    code: 'index.damaged',
    subject,
    remedy: 'restore the folder, or make the index again with distill index',
    cause,
  });

/** Another process may write meanwhile and remove what its new manifest does not name: then this one is read again. */
export async function openStore(
  folder: string,
  { id, key, dimensions, terms }: StoredAs,
): Promise<{ store: IndexStore; seen: string }> {
  const vectors = join(folder, VECTORS);
  for (let tries = 1; ; tries++) {
    const seen = await manifestOf(folder);
    try {
      const store = await IndexStore.open(vectors, { terms });
      if (tries < RETRIES && (await manifestOf(folder)) !== seen) continue;
      if (store.encoder !== key || store.dimensions !== dimensions)
        throw damaged(`${vectors} holds vectors of another encoder than ${folder} was made with`);
      if (store.id !== id) throw damaged(`${vectors} belongs to another index than the rest of ${folder}`);
      return { store, seen };
    } catch (error) {
      if (tries === RETRIES || (await manifestOf(folder)) === seen) throw error;
    }
  }
}
