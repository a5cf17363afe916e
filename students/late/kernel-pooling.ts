/** @file Kernel pooling: how many document tokens there are at each level of similarity to a query token. */
import { defineScorer, meanOverQuery, products } from './scorer.ts';

const CENTRES = [1, 0.9, 0.7, 0.5, 0.3, 0.1, -0.1, -0.3, -0.5];
/** Width of the kernels; the one at 1 counts equal tokens and is narrower. */
const WIDTHS = CENTRES.map((c) => (c === 1 ? 0.05 : 0.1));
const LEAST = 1e-6;

/**
 * score = sum over k of w_k x mean over query tokens i of log(sum over document tokens j of exp(-(s_ij - c_k)^2 / 2 width_k^2))
 *
 * @source Xiong et al. 2017, K-NRM (arXiv 1706.06613)
 */
export const kernelPooling = defineScorer({
  name: 'kernel-pooling',
  start: () =>
    new Map([
      [
        'kernels',
        { dtype: 'float32', dims: [CENTRES.length], data: Float32Array.from(CENTRES, (c) => (c > 0.4 ? 0.05 : 0)) },
      ],
    ]),
  scores({ similarity, queryMask, documentMask }, { kernels }) {
    const shown = documentMask.unsqueeze(1); // [R, 1, C, Ld]
    const levels = CENTRES.map((centre, k) => {
      const near = similarity
        .sub(centre)
        .square()
        .mul(-1 / (2 * WIDTHS[k] ** 2))
        .exp()
        .mul(shown)
        .sum([3]);
      return meanOverQuery(near.add(LEAST).log(), queryMask).unsqueeze(2); // [B, C, 1]
    });
    return levels[0].concat(levels.slice(1), 2).mul(kernels).sum([2]);
  },
  score(query, document, weights) {
    const [n, m] = [query.data.length / query.dimensions, document.data.length / document.dimensions];
    const s = products(query, document);
    const w = weights.get('kernels')?.data as Float32Array;
    return CENTRES.reduce((total, centre, k) => {
      let level = 0;
      for (let i = 0; i < n; i++) {
        let near = LEAST;
        for (let j = 0; j < m; j++) near += Math.exp(-((s[i * m + j] - centre) ** 2) / (2 * WIDTHS[k] ** 2));
        level += Math.log(near) / n;
      }
      return total + w[k] * level;
    }, 0);
  },
});
