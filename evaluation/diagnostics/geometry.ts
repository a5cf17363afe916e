/** @file Similarity of two embedding spaces, and how evenly a space is used. */
import { InputError } from '../../common/errors.ts';
import { eigenvalues } from '../../math/linear-algebra.ts';
import { countOf, dotRows, logSumExp, type Rows, squaredDistance } from '../../math/numbers.ts';

function sameCount(x: Rows, y: Rows): number {
  const n = countOf(x);
  if (countOf(y) !== n)
    throw new InputError({
      code: 'diagnostics.rows',
      subject: 'two spaces of embeddings',
      expected: `as many rows, ${n}`,
      received: String(countOf(y)),
    });
  return n;
}

function centred(rows: Rows): Rows & { data: Float64Array } {
  const [n, D] = [countOf(rows), rows.dimensions];
  const data = Float64Array.from(rows.data);
  for (let k = 0; k < D; k++) {
    let m = 0;
    for (let i = 0; i < n; i++) m += data[i * D + k] / n;
    for (let i = 0; i < n; i++) data[i * D + k] -= m;
  }
  return { dimensions: D, data };
}

/** ||A^T B||_F^2. */
function crossNorm(a: Rows, b: Rows): number {
  const n = countOf(a);
  const product = new Float64Array(a.dimensions * b.dimensions);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < a.dimensions; k++) {
      const x = a.data[i * a.dimensions + k];
      for (let l = 0; l < b.dimensions; l++) product[k * b.dimensions + l] += x * b.data[i * b.dimensions + l];
    }
  return product.reduce((s, v) => s + v * v, 0);
}

/**
 * Linear centred kernel alignment, ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F) with centred columns: 1 for the same space up to
 * rotation and scaling; widths may differ. Cost: n x Dx x Dy.
 * @source Kornblith et al., ICML 2019 (arXiv 1905.00414)
 */
export function linearCka(x: Rows, y: Rows): number {
  sameCount(x, y);
  const [a, b] = [centred(x), centred(y)];
  return crossNorm(a, b) / Math.sqrt(crossNorm(a, a) * crossNorm(b, b));
}

/**
 * exp(H(sigma / sum sigma)) of the singular values (effective rank): the number of directions in use. Computed from the
 * eigenvalues of the smaller Gram matrix.
 * @source Roy and Vetterli 2007
 */
export function effectiveRank(rows: Rows): number {
  const [n, D] = [countOf(rows), rows.dimensions];
  const size = Math.min(n, D);
  const data = new Float64Array(size * size);
  if (n <= D) for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) data[i * n + j] = dotRows(rows, i, rows, j);
  else
    for (let i = 0; i < n; i++)
      for (let k = 0; k < D; k++)
        for (let l = 0; l < D; l++) data[k * D + l] += rows.data[i * D + k] * rows.data[i * D + l];
  const singular = eigenvalues({ n: size, data }).map((v) => Math.sqrt(Math.max(0, v)));
  const sum = singular.reduce((a, b) => a + b, 0);
  let h = 0;
  for (const s of singular) if (s > 0) h -= (s / sum) * Math.log(s / sum);
  return Math.exp(h);
}

/** Mean cosine of all pairs of different rows: near 0 where directions are used evenly, near 1 in a narrow cone. */
export function anisotropy(rows: Rows): number {
  const n = countOf(rows);
  const sum = new Float64Array(rows.dimensions);
  for (let i = 0; i < n; i++) {
    const length = Math.sqrt(dotRows(rows, i, rows, i)) || 1;
    for (let k = 0; k < rows.dimensions; k++) sum[k] += rows.data[i * rows.dimensions + k] / length;
  }
  return (sum.reduce((s, v) => s + v * v, 0) - n) / (n * (n - 1));
}

/**
 * log mean exp(-2 ||e_i - e_j||^2) over pairs of different rows of unit length: lower is more even.
 * @source Wang and Isola, ICML 2020 (arXiv 2005.10242)
 */
export function uniformity(rows: Rows): number {
  const n = countOf(rows);
  const each = new Float64Array((n * (n - 1)) / 2);
  for (let i = 0, at = 0; i < n; i++) for (let j = 0; j < i; j++) each[at++] = -2 * squaredDistance(rows, i, rows, j);
  return logSumExp(each) - Math.log(each.length);
}

/**
 * Mean ||e_q - e_d+||^2 of queries and their documents, row by row.
 * @source Wang and Isola, ICML 2020 (arXiv 2005.10242)
 */
export function alignment(queries: Rows, documents: Rows): number {
  const n = sameCount(queries, documents);
  let sum = 0;
  for (let i = 0; i < n; i++) sum += squaredDistance(queries, i, documents, i);
  return sum / n;
}

/** Mean fraction of a row's k nearest neighbours (by dot product, ties by the lower position) that both spaces share. */
export function neighbourOverlap(x: Rows, y: Rows, k: number): number {
  const n = sameCount(x, y);
  const depth = Math.min(k, n - 1);
  let shared = 0;
  for (let i = 0; i < n; i++) {
    const first = new Set(nearest(x, i, depth));
    for (const j of nearest(y, i, depth)) shared += Number(first.has(j));
  }
  return shared / (n * depth);
}

function nearest(rows: Rows, i: number, k: number): number[] {
  const scores = Float64Array.from({ length: countOf(rows) }, (_, j) => dotRows(rows, i, rows, j));
  return Array.from(scores, (_, j) => j)
    .filter((j) => j !== i)
    .sort((a, b) => scores[b] - scores[a] || a - b)
    .slice(0, k);
}
