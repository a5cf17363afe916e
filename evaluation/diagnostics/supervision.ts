/** @file Supervision complexity: how hard a teacher's targets are for a student's kernel. */
import { InputError } from '../../common/errors.ts';
import { cholesky, forward, type Square } from '../../math/linear-algebra.ts';
import { dotRows, type Rows } from '../../math/numbers.ts';

/** Complexity of targets for a kernel, compared with random targets of the same size. */
export interface SupervisionComplexity {
  /** sqrt(Y^T K^-1 Y). */
  complexity: number;
  /** sqrt(Y^T K^-1 Y Tr(K)) / n: the same for K and cK. */
  adjusted: number;
  /** Ridge added to K's diagonal, as a fraction of its mean. */
  ridge: number;
}

/**
 * High where targets are along directions that the kernel hardly spans, low where a function of small norm fits them.
 * Comparable only at the same samples, ridge and scale of targets. The normalisation of the adjusted value makes it independent
 * of the kernel's scale; it is not taken from the paper.
 *
 * @param kernel [n, n] symmetric and positive semi-definite; it is made symmetric
 * @param targets [n] e.g. the teacher's logits
 * @param ridge added to the diagonal as a fraction of Tr(K) / n
 * @throws FaultError where the kernel with its ridge is not positive definite
 * @source Harutyunyan et al., ICLR 2023 (arXiv 2301.12245)
 */
export function supervisionComplexity(kernel: Square, targets: ArrayLike<number>, ridge = 1e-6): SupervisionComplexity {
  const { n, data } = kernel;
  if (targets.length !== n || data.length !== n * n)
    throw new InputError({
      code: 'diagnostics.kernel',
      subject: 'the kernel of supervision complexity',
      expected: `${targets.length} x ${targets.length} numbers, one row a target`,
      received: `${data.length}`,
    });
  let trace = 0;
  for (let i = 0; i < n; i++) trace += data[i * n + i];
  const own = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++)
      own[i * n + j] = (data[i * n + j] + data[j * n + i]) / 2 + (i === j ? (ridge * trace) / n : 0);
  const half = forward(cholesky({ n, data: own }), targets);
  const quadratic = half.reduce((s, v) => s + v * v, 0);
  return { complexity: Math.sqrt(quadratic), adjusted: Math.sqrt(quadratic * trace * (1 + ridge)) / n, ridge };
}

/** Features of pairs that define the kernel, row-major. */
export interface PairFeatures {
  /** [n, H] inputs of the last linear layer for each pair's query and document. */
  queryHidden: Rows;
  documentHidden: Rows;
  /** [n, D] its outputs. */
  queryEmbeddings: Rows;
  documentEmbeddings: Rows;
}

/**
 * The tangent kernel of a dual-encoder's scores <e_q, e_d> with respect to its last layer e = W h only:
 *
 *     K_ij = <h_q, h_q'> <e_d, e_d'> + <h_d, h_d'> <e_q, e_q'>
 *     (+ <h_q, h_d'> <e_d, e_q'> + <h_d, h_q'> <e_q, e_d'> where both towers share W)
 */
export function lastLayerKernel(pairs: PairFeatures, shared: boolean): Square {
  const { queryHidden: hq, documentHidden: hd, queryEmbeddings: eq, documentEmbeddings: ed } = pairs;
  const n = hq.data.length / hq.dimensions;
  const data = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let k = dotRows(hq, i, hq, j) * dotRows(ed, i, ed, j) + dotRows(hd, i, hd, j) * dotRows(eq, i, eq, j);
      if (shared) k += dotRows(hq, i, hd, j) * dotRows(ed, i, eq, j) + dotRows(hd, i, hq, j) * dotRows(eq, i, ed, j);
      data[i * n + j] = k;
      data[j * n + i] = k;
    }
  return { n, data };
}
