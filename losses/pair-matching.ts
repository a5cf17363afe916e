/** @file Embedding matching to a cross-encoder: its query and document vectors from the joint encoding of the pair. */
import { type Distance, distanceBetween, distances } from './embedding-matching.ts';
import { defineLoss, type Loss, meanOver } from './loss.ts';
import { choice, withDefaults } from './options.ts';

/** Options of the loss `pair-matching`. */
export interface PairMatchingOptions {
  distance?: Distance;
}

/**
 * Dual pooling takes a query vector and a document vector from a cross-encoder's encoding of a pair; the student's embeddings are
 * drawn towards both, mean over the query's candidates.
 *
 *     value_b = mean_n( |e^t_q(q, d_n) - Proj(e^s_q)| + |e^t_d(q, d_n) - Proj(e^s_d)| )
 *
 * The targets depend on the pair, so the student can at best reach their mean. In a run, Proj is learned at equal widths too,
 * since the two spaces are unrelated.
 *
 * @example
 * import { pairMatching } from 'onnx-distill/losses';
 * const { loss } = await pairMatching().evaluate({
 *   queries: [[0.6, 0.8]],
 *   documents: [[1, 0]],
 *   candidates: [[0]],
 *   mask: [[1]],
 *   pairQueries: { dims: [1, 1, 2], data: [1, 0] },
 *   pairDocuments: { dims: [1, 1, 2], data: [1, 0] },
 * });
 * loss; // 0.894428
 * @source Kim, Rawat, Zaheer et al. 2023 (arXiv 2301.12005)
 */
export function pairMatching(given: PairMatchingOptions = {}): Loss {
  const { distance } = withDefaults(pairMatching.options, given);
  return defineLoss({
    name: 'pair-matching',
    needs: ['queries', 'documents', 'candidates', 'mask', 'pairQueries', 'pairDocuments'],
    uses: ['projection'],
    perQuery({ queries, documents, candidates, mask, pairQueries, pairDocuments, projection }) {
      const mapped = (e: typeof queries): typeof queries => (projection ? e.matmul(projection) : e);
      const query = mapped(queries).unsqueeze(1); // [B, 1, Dt]
      const document = mapped(documents).gather(candidates); // [B, N, Dt]
      return meanOver(
        distanceBetween(query, pairQueries, distance).add(distanceBetween(document, pairDocuments, distance)),
        mask,
      );
    },
  });
}
pairMatching.options = {
  distance: choice(distances, 'l2', 'cosine where the student is scaled to unit length: the vectors of a pair are not'),
};
