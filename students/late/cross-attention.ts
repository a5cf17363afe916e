/** @file One layer of attention from the query's tokens to the document's, over cached document states. */
import type { Tensor } from '../../engine/graph/tensor.ts';
import { Random } from '../../math/random.ts';
import { defineScorer, meanOverQuery, products } from './scorer.ts';

const HIDDEN = 64;
/** How much attention prefers near tokens before training. */
const SHARPNESS = 10;

/**
 * c_i = sum over j of softmax_j(a s_ij) d_j; score = mean over query tokens i of w . relu(q_i U + c_i V + b)
 *
 * @source decoupled context processing: Li, Guo and Kumar 2022 (arXiv 2210.05758)
 */
export const crossAttention = defineScorer({
  name: 'cross-attention',
  start({ dimensions: D }, seed) {
    const random = Random.of(seed, 'cross-attention');
    const drawn = (dims: number[], size: number): Tensor<'float32'> => ({
      dtype: 'float32',
      dims,
      data: Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => size * random.normal()),
    });
    return new Map<string, Tensor<'float32'>>([
      ['sharpness', { dtype: 'float32', dims: [1], data: Float32Array.of(SHARPNESS) }],
      ['fromQuery', drawn([D, HIDDEN], 1)],
      ['fromContext', drawn([D, HIDDEN], 1)],
      ['bias', drawn([HIDDEN], 0)],
      ['out', drawn([HIDDEN], 0.01)],
    ]);
  },
  scores(
    { queries, similarity, queryMask, documents, documentMask },
    { sharpness, fromQuery, fromContext, bias, out },
  ) {
    const shown = documentMask.greater(0).unsqueeze(1);
    const attention = shown.where(similarity.mul(sharpness), -1e9).softmax(-1); // [B, Lq, C, Ld]
    const context = attention.transpose(0, 2, 1, 3).matmul(documents); // [B, C, Lq, D]
    const hidden = queries.matmul(fromQuery).unsqueeze(1).add(context.matmul(fromContext)).add(bias).relu();
    const each = hidden.mul(out).sum([3]); // [B, C, Lq]
    return meanOverQuery(each.transpose(0, 2, 1), queryMask);
  },
  score(query, document, weights) {
    const D = query.dimensions;
    const [n, m] = [query.data.length / D, document.data.length / D];
    const s = products(query, document);
    const [a, U, V, b, w] = ['sharpness', 'fromQuery', 'fromContext', 'bias', 'out'].map(
      (name) => weights.get(name)?.data as Float32Array,
    );
    let total = 0;
    for (let i = 0; i < n; i++) {
      const row = s.subarray(i * m, (i + 1) * m);
      const largest = row.reduce((x, y) => Math.max(x, y * a[0]), Number.NEGATIVE_INFINITY);
      const p = Float64Array.from(row, (x) => Math.exp(a[0] * x - largest));
      const sum = p.reduce((x, y) => x + y, 0);
      const context = new Float64Array(D);
      for (let j = 0; j < m; j++) for (let k = 0; k < D; k++) context[k] += (p[j] / sum) * document.data[j * D + k];
      for (let h = 0; h < HIDDEN; h++) {
        let value = b[h];
        for (let k = 0; k < D; k++) value += query.data[i * D + k] * U[k * HIDDEN + h] + context[k] * V[k * HIDDEN + h];
        total += Math.max(0, value) * w[h];
      }
    }
    return total / n;
  },
});
