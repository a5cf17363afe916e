/** @file MaxSim: each token of the query finds its nearest token of the document. */
import type { Rows } from '../../math/numbers.ts';
import { defineScorer, meanOverQuery } from './scorer.ts';

/**
 * score = mean over query tokens i of max over document tokens j of q_i . d_j
 *
 * The mean over the query's tokens ranks a query's documents as the sum does, and is within [-1, 1] as a cosine is.
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
  const [n, m] = [query.data.length / D, document.data.length / D];
  let sum = 0;
  for (let i = 0; i < n; i++) {
    let best = Number.NEGATIVE_INFINITY;
    for (let j = 0; j < m; j++) {
      let dot = 0;
      for (let k = 0; k < D; k++) dot += query.data[i * D + k] * document.data[j * D + k];
      if (dot > best) best = dot;
    }
    sum += best;
  }
  return sum / n;
}
