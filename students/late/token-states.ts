/** @file Token states of a frozen encoder, computed once and kept in the cache folder: training and indexes read them by offset. */
import { join } from 'node:path';
import { hashParts } from '../../common/files.ts';
import { waitForLock } from '../../common/lock.ts';
import type { RunControl } from '../../common/progress.ts';
import type { TextTable } from '../../data/dataset.ts';
import type { Role } from '../../models/modules/prompts.ts';
import type { TokenEncoder } from '../../models/multi-vector/token-encoder.ts';
import { TokenFile } from '../../retrieval/multi-vector/token-file.ts';

/** Frozen states of a table of texts. */
export interface TokenStates {
  /** Width of a state. */
  readonly width: number;
  /** Width of the vectors of whole texts. */
  readonly dimensions: number;
  readonly length: number;
  /** [count, width] float16 bits of the states of a text. */
  halves(text: number): Uint16Array;
  /** [count, width] the states of a text. */
  read(text: number): Float32Array;
  /** [dimensions] the vector of a whole text. */
  vector(text: number): Float32Array;
  close(): void;
}

/** What states are of. */
export interface StatesOf {
  role: Role;
  /** Tokens that the encoder reads of a text, special tokens included. */
  maxLength: number;
  /** The first so many tokens are kept. */
  keep: number;
}

/** Texts written at a time: after a kill at most so many are encoded again. */
const BATCH = 1024;

/** Key of some states: of the encoder, the texts and where they are cut. */
export const statesKey = (encoder: Pick<TokenEncoder, 'key'>, texts: Pick<TextTable, 'hash'>, of: StatesOf): string =>
  hashParts('token states', encoder.key, texts.hash, of.role, String(of.maxLength), String(of.keep));

/** The folder of some states in a cache folder. */
export const statesFolder = (cache: string, key: string): string => join(cache, 'token-states', key.slice(0, 32));

/**
 * The states of all texts of a table; those that the cache has are not computed again, and a stopped run goes on. Where another
 * process of this machine computes the same states, it is waited for.
 * @param cache the cache folder
 */
export async function tokenStates(
  encoder: TokenEncoder,
  texts: Pick<TextTable, 'hash' | 'length' | 'text'>,
  of: StatesOf,
  cache: string,
  watch: RunControl = {},
): Promise<TokenStates> {
  const key = statesKey(encoder, texts, of);
  const folder = statesFolder(cache, key);
  const { width, dimensions } = encoder;
  const unlock = await waitForLock(`${folder}.lock`, `the token states ${folder}`, watch);
  try {
    const tokens = await TokenFile.append(join(folder, 'tokens'), { codec: 'float16', width, key });
    const vectors = await TokenFile.append(join(folder, 'vectors'), { codec: 'float32', width: dimensions, key });
    try {
      for (let from = Math.min(tokens.length, vectors.length); from < texts.length; from += BATCH) {
        const count = Math.min(BATCH, texts.length - from);
        const rows: Float32Array[] = Array(count);
        const whole: Float32Array[] = Array(count);
        const part = { length: count, text: (i: number) => texts.text(from + i) };
        const onProgress =
          watch.onProgress &&
          ((p: Parameters<NonNullable<RunControl['onProgress']>>[0]) =>
            watch.onProgress?.({ ...p, done: from + p.done, total: texts.length }));
        await encoder.encode(
          part,
          {
            ...of,
            signal: watch.signal,
            onProgress,
            stage: `token states of ${of.role === 'query' ? 'queries' : 'documents'}`,
          },
          (t) => {
            rows[t.at] = t.tokens;
            whole[t.at] = t.vector;
          },
        );
        // A kill between the two leaves one file ahead: what it has already is not written twice.
        if (tokens.length === from) tokens.add(rows);
        if (vectors.length === from) vectors.add(whole);
      }
    } finally {
      tokens.close();
      vectors.close();
    }
  } finally {
    await unlock();
  }
  return openStates(folder);
}

/** Opens states that are there. @throws InputError where they are not */
export async function openStates(folder: string): Promise<TokenStates> {
  const tokens = await TokenFile.open(join(folder, 'tokens'));
  const vectors = await TokenFile.open(join(folder, 'vectors'));
  return {
    width: tokens.header.width,
    dimensions: vectors.header.width,
    length: Math.min(tokens.length, vectors.length),
    halves(text) {
      const codes = tokens.codesOf(text);
      return new Uint16Array(codes.buffer, 0, codes.length / 2);
    },
    read: (text) => tokens.read(text),
    vector: (text) => vectors.read(text),
    close() {
      tokens.close();
      vectors.close();
    },
  };
}
