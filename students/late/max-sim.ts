/** @file MaxSim: each token of the query finds its nearest token of the document. */
import type { Rows } from '../../math/numbers.ts';
import { defineScorer, meanOverQuery } from './scorer.ts';

/**
 * score = mean over query tokens i of max over document tokens j of q_i . d_j
 *
 * The mean over the query's tokens ranks a query's documents as the sum does, and lies within [-1, 1] as a cosine does.
 * @source Khattab and Zaharia 2020 (arXiv 2004.12832)
 */
export const maxSim = defineScorer({
  name: 'max-sim',
  start: () => new Map(),
  scores({ similarity, queryMask, documentMask }) {
    const shown = documentMask.greater(0).unsqueeze(1); // [R, 1, C, Ld]
    return meanOverQuery(shown.where(similarity, -1e9).reduceMax([3]), queryMask);
  },
  score: (query, document) => maxSimOf(query, document),
});

/** MaxSim of one pair. */
export function maxSimOf(query: Rows, document: Rows): number {
  const D = query.dimensions;
  const [a, b] = [query.data as Float32Array, document.data as Float32Array];
  const [n, m] = [a.length / D, b.length / D];
  const whole = D - (D % 4);
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const from = i * D;
    let best = Number.NEGATIVE_INFINITY;
    for (let j = 0; j < m; j++) {
      const at = j * D;
      // Four sums: each product need not wait for the one before.
      let [s0, s1, s2, s3] = [0, 0, 0, 0];
      let k = 0;
      for (; k < whole; k += 4) {
        s0 += a[from + k] * b[at + k];
        s1 += a[from + k + 1] * b[at + k + 1];
        s2 += a[from + k + 2] * b[at + k + 2];
        s3 += a[from + k + 3] * b[at + k + 3];
      }
      for (; k < D; k++) s0 += a[from + k] * b[at + k];
      const dot = s0 + s1 + (s2 + s3);
      if (dot > best) best = dot;
    }
    sum += best;
  }
  return sum / n;
}
