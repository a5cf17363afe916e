/** @file The shape of a scorer of late interaction: token vectors of a query and of documents in, one score a document out. */
import type { Expr } from '../../engine/expressions/expr.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import type { Rows } from '../../math/numbers.ts';

/** Projected token vectors at unit length, as graph values: B queries, C documents for each of them, or the same C for all (R = 1). */
export interface LateInputs {
  /** [B, Lq, D] */
  queries: Expr;
  /** [B, Lq] 1 for a token, 0 for padding. */
  queryMask: Expr;
  /** [R, C, Ld, D], R is 1 or B. */
  documents: Expr;
  /** [R, C, Ld] */
  documentMask: Expr;
  /** [B, Lq, C, Ld] dot products of tokens. */
  similarity: Expr;
}

/** Sizes that a scorer's weights depend on. */
export interface LateSizes {
  /** D, numbers a token. */
  dimensions: number;
  /** Most tokens of a query and of a document. */
  queryTokens: number;
  documentTokens: number;
}

export type LateWeights = ReadonlyMap<string, Tensor<'float32'>>;

/** A scorer. */
export interface LateScorer {
  readonly name: string;
  /** Whether its weights belong to places: batches are then padded to `LateSizes`. */
  readonly fixedLengths?: true;
  /** Its weights before training, by name; empty where it has none. */
  start(sizes: LateSizes, seed: number): LateWeights;
  /** @returns [B, C] scores; padding of either side does not count */
  scores(inputs: LateInputs, weights: Readonly<Record<string, Expr>>): Expr;
  /** The same for one pair, on plain arrays: what serves. */
  score(query: Rows, document: Rows, weights: LateWeights): number;
}

/** A scorer as a value. */
export const defineScorer = <S extends LateScorer>(scorer: S): S => scorer;

/** Mean over the tokens of a query. @param values [B, Lq, C] @param mask [B, Lq] @returns [B, C] */
export const meanOverQuery = (values: Expr, mask: Expr): Expr =>
  values
    .mul(mask.unsqueeze(2))
    .sum([1])
    .div(mask.sum([1], true).max(1));

/** [n, m] dot products of the rows of two tables. */
export function products(a: Rows, b: Rows): Float64Array {
  const [n, m, D] = [a.data.length / a.dimensions, b.data.length / b.dimensions, a.dimensions];
  const out = new Float64Array(n * m);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < m; j++) {
      let dot = 0;
      for (let k = 0; k < D; k++) dot += a.data[i * D + k] * b.data[j * D + k];
      out[i * m + j] = dot;
    }
  return out;
}
