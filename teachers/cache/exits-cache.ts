/** @file Scores of a cross-encoder at every exit, through the cache. */
import { hashParts } from '../../common/files.ts';
import type { Progress, RunControl } from '../../common/progress.ts';
import type { ExitsTeacher } from '../exits.ts';
import type { Pair } from '../teacher.ts';
import type { ScoreCache } from './score-cache.ts';

/** Pairs scored between two writes to the cache. */
const CHUNK = 1024;

/**
 * Scores at every exit, each kept in the cache under a key of its own; those of the last under the teacher's.
 * @returns [exits][pairs]
 */
export async function cachedExits(
  cache: ScoreCache,
  teacher: ExitsTeacher,
  pairs: readonly Pair[],
  watch: RunControl,
): Promise<Float32Array[]> {
  const { layers } = teacher.exits;
  const out = layers.map(() => new Float32Array(pairs.length));
  for (let at = 0; at < pairs.length; at += CHUNK) {
    const part = pairs.slice(at, at + CHUNK);
    const onProgress =
      watch.onProgress &&
      ((p: Progress) =>
        watch.onProgress?.(p.note === undefined ? { ...p, done: at + p.done, total: pairs.length } : p));
    // What one exit lacks in the cache the others mostly lack too: a pair goes through the segments once.
    const known = new Map<string, number[]>();
    const keyOf = (p: Pair): string => JSON.stringify([p.query, p.document]);
    for (const exit of layers.keys()) {
      const last = exit === layers.length - 1;
      const own = cache.wrap({
        ...teacher,
        key: last ? teacher.key : hashParts(teacher.key, 'exit', String(exit)),
        async score(asked, inner) {
          const missing = asked.filter((p) => !known.has(keyOf(p)));
          if (missing.length) {
            const found = await teacher.scoreExits(missing, inner);
            for (const [i, p] of missing.entries())
              known.set(
                keyOf(p),
                found.map((scores) => scores[i]),
              );
          }
          return Float32Array.from(asked, (p) => (known.get(keyOf(p)) as number[])[exit]);
        },
      });
      out[exit].set(await own.score(part, { ...watch, onProgress }), at);
    }
  }
  return out;
}
