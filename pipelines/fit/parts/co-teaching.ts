/** @file Two students of one training set that choose for each other what to learn from. One works at a time. */
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson, hashParts, writeWhole } from '../../../common/files.ts';
import { Turns } from '../../../common/turns.ts';
import type { StateKey } from '../../../training/training-state.ts';

/** The exchange with the other student. */
export interface Peer {
  /** Sends each query's loss as it is before a step, and waits for the other's. */
  exchange(step: number, losses: Float64Array): Promise<Float64Array>;
}

/**
 * Trains two students and gives the result of the first.
 *
 * What is exchanged is kept in the folder until both are done: stopped between two renewals, one of them may have read already
 * what the other still waits for.
 *
 * @param folder of the second student's state and of what is exchanged; removed at the end
 * @param key of the training, to which what is kept belongs
 */
export async function trainTogether<T>(
  folder: string,
  key: StateKey,
  given: AbortSignal | undefined,
  train: (who: 0 | 1, peer: Peer, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const signal = given ? AbortSignal.any([given, stop.signal]) : stop.signal;
  const turns = new Turns(signal);
  const belongs = hashParts(canonicalJson(key)).slice(0, 16);
  const file = (who: 0 | 1, step: number): string => join(folder, `losses-${who}-${step}-${belongs}.f64`);
  const peerOf = (who: 0 | 1): Peer => ({
    async exchange(step, losses) {
      await writeWhole(file(who, step), new Uint8Array(losses.buffer, losses.byteOffset, losses.byteLength));
      const others = file(who ? 0 : 1, step);
      while (!existsSync(others)) await turns.passOn();
      return new Float64Array(new Uint8Array(await readFile(others)).buffer);
    },
  });
  const [first, second] = ([0, 1] as const).map((who) => turns.take(() => train(who, peerOf(who), signal)));
  try {
    // Where the other fails, the first waits for nothing.
    const trained = await Promise.race([first, second.then(() => first)]);
    stop.abort();
    await Promise.allSettled([second]);
    await rm(folder, { recursive: true, force: true });
    return trained;
  } finally {
    stop.abort();
    await Promise.allSettled([first, second]);
  }
}
