/** @file Introspective experience replay: batches that end at the most surprising examples, in reverse. */
import type { StreamMethod } from './stream.ts';

/**
 * A buffer of the stream is full: the examples with the largest losses under the current weights are pivots, the largest
 * first, and the batch of a pivot is the pivot and the examples before it, newest first. A pivot too near to the beginning is
 * moved to the first place that has a whole batch before it. `surprising` is the share of batches with a pivot; the others
 * are drawn uniformly from the buffer. As many examples are learned as the buffer holds, so that some are learned several
 * times and some never.
 *
 * @source Kumar and Nagaraj 2022 (arXiv 2206.03171), and `reversepp_path_buffer.py` of google-research/look-back-when-surprised;
 *   its mixed variant is `surprising: 0.7`
 */
export const introspective: StreamMethod = {
  name: 'introspective',
  readsSurprise: true,
  repeats: true,
  learned: (n) => n,
  order({ length, batches, surprising, surprise, random }) {
    const losses = surprise ?? [];
    const pivots = Array.from({ length }, (_, i) => i).sort((a, b) => losses[b] - losses[a] || a - b);
    const count = Math.round(surprising * batches.length);
    const ends = random.shuffle(Array.from(batches, (_, k) => (k < count ? 1 : 0)));
    let next = 0;
    const order = batches.flatMap((size, k) => {
      if (!ends[k]) return drawn(length, size, () => random.uniform());
      const pivot = Math.max(pivots[next++], size - 1);
      return Array.from({ length: size }, (_, i) => pivot - i);
    });
    return Int32Array.from(order);
  },
};

/** Some of the positions below n, drawn without replacement. */
function drawn(n: number, count: number, uniform: () => number): number[] {
  const all = Array.from({ length: n }, (_, i) => i);
  for (let i = 0; i < count; i++) {
    const j = i + Math.floor(uniform() * (n - i));
    [all[i], all[j]] = [all[j], all[i]];
  }
  return all.slice(0, count);
}
