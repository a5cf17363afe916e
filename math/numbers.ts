/** @file Arithmetic shared by selection, weighting and diagnostics, in float64 and without overflow. */
import { lengthOf } from './ragged.ts';

/** Scores of lists of candidates: those of list i are scores[offsets[i] .. offsets[i + 1]]. */
export interface ScoreLists {
  readonly offsets: ArrayLike<number>;
  readonly scores: ArrayLike<number>;
}

/** Vectors as rows: row i is data[i * dimensions .. (i + 1) * dimensions]. */
export interface Rows {
  readonly dimensions: number;
  readonly data: ArrayLike<number>;
}

export const countOf = (rows: Rows): number => (rows.dimensions ? rows.data.length / rows.dimensions : 0);

/** The scores of list i. */
export function listOf({ offsets, scores }: ScoreLists, i: number): Float64Array {
  const list = new Float64Array(lengthOf(offsets, i));
  for (let k = 0; k < list.length; k++) list[k] = scores[offsets[i] + k];
  return list;
}

/** f of every list. */
export function eachList(lists: ScoreLists, f: (list: Float64Array, i: number) => number): Float64Array {
  return Float64Array.from({ length: lists.offsets.length - 1 }, (_, i) => f(listOf(lists, i), i));
}

/** log sum exp(x); -Infinity for an empty list. */
export function logSumExp(x: ArrayLike<number>): number {
  let most = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < x.length; i++) most = Math.max(most, x[i]);
  if (!Number.isFinite(most)) return most;
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += Math.exp(x[i] - most);
  return most + Math.log(sum);
}

/** exp(x / T) over its sum. */
export function softmax(x: ArrayLike<number>, temperature = 1): Float64Array {
  const scaled = Float64Array.from(x, (v) => v / temperature);
  const total = logSumExp(scaled);
  return scaled.map((v) => Math.exp(v - total));
}

export const sigmoid = (x: number): number => (x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)));

/** log sigmoid(x) = min(x, 0) - log(1 + e^-|x|). */
export const logSigmoid = (x: number): number => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)));

/** log(p / (1 - p)), p clamped to [1e-6, 1 - 1e-6]. */
export function logit(p: number): number {
  const q = Math.min(1 - 1e-6, Math.max(1e-6, p));
  return Math.log(q / (1 - q));
}

/** -sum p log p in nats; 0 log 0 = 0. */
export function entropy(p: ArrayLike<number>): number {
  let h = 0;
  for (let i = 0; i < p.length; i++) if (p[i] > 0) h -= p[i] * Math.log(p[i]);
  return h;
}

/** The largest value, its index (the first of equals) and the second largest (-Infinity if there is none). */
export function topTwo(x: ArrayLike<number>): { first: number; second: number; at: number } {
  let [first, second, at] = [Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY, -1];
  for (let i = 0; i < x.length; i++)
    if (at < 0 || x[i] > first) [second, first, at] = [first, x[i], i];
    else if (x[i] > second) second = x[i];
  return { first, second, at };
}

/** Indices in descending order of value; ties by the lower index, NaN last. */
export function descending(x: ArrayLike<number>): Int32Array {
  const key = (i: number): number => (Number.isNaN(x[i]) ? Number.NEGATIVE_INFINITY : x[i]);
  return Int32Array.from({ length: x.length }, (_, i) => i).sort((a, b) => {
    const [ka, kb] = [key(a), key(b)];
    return ka === kb ? a - b : kb - ka;
  });
}

export function mean(x: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) sum += x[i];
  return x.length ? sum / x.length : Number.NaN;
}

/** <a_i, b_j> of rows. */
export function dotRows(a: Rows, i: number, b: Rows, j: number): number {
  const D = a.dimensions;
  const [x, y] = [i * D, j * D];
  let dot = 0;
  for (let k = 0; k < D; k++) dot += a.data[x + k] * b.data[y + k];
  return dot;
}

/** ||a_i - b_j||^2 of rows. */
export function squaredDistance(a: Rows, i: number, b: Rows, j: number): number {
  const D = a.dimensions;
  const [x, y] = [i * D, j * D];
  let sum = 0;
  for (let k = 0; k < D; k++) {
    const d = a.data[x + k] - b.data[y + k];
    sum += d * d;
  }
  return sum;
}

/** The number rounded up to a multiple. */
export const roundUp = (n: number, multiple: number): number => Math.ceil(n / multiple) * multiple;
