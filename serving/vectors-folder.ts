/** @file The vectors of an index folder: laid out when it is first opened, read whole while another process writes. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { removeLeftovers } from '../common/files.ts';
import { IndexStore } from '../retrieval/store.ts';
import type { SearchFile } from './index-file.ts';

const VECTORS = 'vectors';
const RETRIES = 3;

/** The manifest's text: another text, other documents. */
export const manifestOf = (folder: string): Promise<string> => readFile(join(folder, VECTORS, 'index.json'), 'utf8');

/** Another process may write meanwhile and remove what its new manifest does not name: then this one is read again. */
export async function openStore(
  folder: string,
  { encoder, settings }: SearchFile,
): Promise<{ store: IndexStore; seen: string }> {
  const vectors = join(folder, VECTORS);
  if (!existsSync(join(vectors, 'index.json'))) {
    await removeLeftovers(vectors);
    const { dimensions, documentsKey } = encoder;
    await IndexStore.create(vectors, { dimensions, settings, encoder: documentsKey });
  }
  for (let tries = 1; ; tries++) {
    const seen = await manifestOf(folder);
    try {
      const store = await IndexStore.open(vectors);
      if (tries === RETRIES || (await manifestOf(folder)) === seen) return { store, seen };
    } catch (error) {
      if (tries === RETRIES || (await manifestOf(folder)) === seen) throw error;
    }
  }
}
