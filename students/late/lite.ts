/** @file LITE: a small network over the matrix of token similarities, first along the document, then along the query. */
import type { Tensor } from '../../engine/graph/tensor.ts';
import { Random } from '../../math/random.ts';
import { defineScorer, products } from './scorer.ts';

const HIDDEN = 32;

/**
 * S [Lq, Ld] with 0 in place of padding; score = sum of w * relu(relu(S A + a)^T B + b)
 *
 * @source separable LITE: Ji et al. 2024, Efficient Document Ranking with Learnable Late Interactions (arXiv 2406.17968), without
 * its layer normalization
 */
export const lite = defineScorer({
  name: 'lite',
  fixedLengths: true,
  start({ queryTokens, documentTokens }, seed) {
    const random = Random.of(seed, 'lite');
    const drawn = (dims: number[], size: number): Tensor<'float32'> => ({
      dtype: 'float32',
      dims,
      data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => size * random.normal()),
    });
    return new Map<string, Tensor<'float32'>>([
      ['along.document', drawn([documentTokens, HIDDEN], (2 / documentTokens) ** 0.5)],
      ['bias.document', drawn([HIDDEN], 0)],
      ['along.query', drawn([queryTokens, HIDDEN], (2 / queryTokens) ** 0.5)],
      ['bias.query', drawn([HIDDEN], 0)],
      ['out', drawn([HIDDEN, HIDDEN], 0.003)],
    ]);
  },
  scores({ similarity, queryMask, documentMask }, weights) {
    const real = documentMask.unsqueeze(1).mul(queryMask.unsqueeze(2, 3)); // [B, Lq, C, Ld]
    const first = similarity.mul(real).matmul(weights['along.document']).add(weights['bias.document']).relu(); // [B, Lq, C, h]
    const second = first.transpose(0, 2, 3, 1).matmul(weights['along.query']).add(weights['bias.query']).relu(); // [B, C, h, h]
    return second.mul(weights.out).sum([2, 3]);
  },
  score(query, document, weights) {
    const [n, m] = [query.data.length / query.dimensions, document.data.length / document.dimensions];
    const s = products(query, document);
    const of = (name: string): Float32Array => weights.get(name)?.data as Float32Array;
    const [A, a, B, b, w] = ['along.document', 'bias.document', 'along.query', 'bias.query', 'out'].map(of);
    const rows = B.length / HIDDEN;
    const first = Float64Array.from({ length: rows * HIDDEN }, (_, at) => {
      const [i, h] = [Math.floor(at / HIDDEN), at % HIDDEN];
      let value = a[h];
      if (i < n) for (let j = 0; j < m; j++) value += s[i * m + j] * A[j * HIDDEN + h];
      return Math.max(0, value);
    });
    let total = 0;
    for (let h = 0; h < HIDDEN; h++)
      for (let g = 0; g < HIDDEN; g++) {
        let value = b[g];
        for (let i = 0; i < rows; i++) value += first[i * HIDDEN + h] * B[i * HIDDEN + g];
        total += Math.max(0, value) * w[h * HIDDEN + g];
      }
    return total;
  },
});
