/** @file Pooling of token vectors to one vector per text, as in sentence-transformers' module Pooling. */
import { concatenated, constant, Expr } from './expr.ts';

/** All poolings, by the names that configs use. */
export const poolings = ['mean', 'cls', 'lasttoken', 'max', 'mean_sqrt_len_tokens', 'weightedmean'] as const;
/** How token vectors become one vector per text. */
export type Pooling = (typeof poolings)[number];

/** Poolings that are a weighted mean of token vectors with weights that sum to 1, so that they commute with linear maps. */
const averages: ReadonlySet<Pooling> = new Set(['mean', 'cls', 'lasttoken', 'weightedmean']);
export const isAverage = (pooling: Pooling): boolean => averages.has(pooling);

/**
 * Pools token vectors to one vector per text.
 * @param hidden [B, L, D] token vectors
 * @param mask [B, L] int64, 1 for tokens that count
 * @param pooling several are joined in the order given
 * @param firstShown whether the mask may hide tokens at the start: cls then takes the first unmasked token
 * @returns [B, D], or [B, n D] for n poolings
 * @source sentence_transformers 5.7, sentence_transformer/modules/pooling.py
 */
export function pool(hidden: Expr, mask: Expr, pooling: Pooling | readonly Pooling[], firstShown = false): Expr {
  const all = (typeof pooling === 'string' ? [pooling] : pooling).map((p) => pooled(hidden, mask, p, firstShown));
  return concatenated(all, -1);
}

/**
 * As `pool`, of token vectors that end in a product with a matrix: the pooled vectors are multiplied where that is the same, which
 * is one row a text in place of one a token.
 */
export function poolBeforeMap(hidden: Expr, mask: Expr, pooling: Pooling): Expr {
  const { producer, readers } = hidden.value;
  const [tokens, map] = producer?.op === 'MatMul' ? producer.inputs : [];
  if (!isAverage(pooling) || !tokens || !map || readers.size || !isMatrix(map)) return pool(hidden, mask, pooling);
  const { graph } = hidden;
  return pool(new Expr(graph, tokens), mask, pooling).matmul(new Expr(graph, map));
}

/** Whether a value is a matrix of weights, and no activation. */
const isMatrix = ({ dims, producer }: Expr['value']): boolean =>
  !producer && dims?.length === 2 && dims.every((d) => typeof d === 'number');

function pooled(hidden: Expr, mask: Expr, pooling: Pooling, firstShown: boolean): Expr {
  const { graph } = hidden;
  if (pooling === 'cls' && !firstShown) return hidden.gather(constant(graph, 'int64', [], [0]), 1);
  const weights = mask.float().unsqueeze(-1); // [B, L, 1]
  const axis = constant(graph, 'int64', [], [1]);
  switch (pooling) {
    // A text without a token (all padding) gives the zero vector rather than 0 / 0.
    case 'mean':
      return hidden
        .mul(weights)
        .sum([1])
        .div(weights.sum([1]).max(1e-9));
    case 'mean_sqrt_len_tokens':
      return hidden
        .mul(weights)
        .sum([1])
        .div(weights.sum([1]).max(1e-9).sqrt());
    case 'weightedmean': {
      // Position p (from 1, including padding on the left) has weight p.
      const places = mask.mul(constant(graph, 'int64', [], [0])).add(constant(graph, 'int64', [], [1]));
      const rising = mask
        .mul(places.op('CumSum', [axis]))
        .float()
        .unsqueeze(-1);
      return hidden
        .mul(rising)
        .sum([1])
        .div(rising.sum([1]).max(1e-9));
    }
    case 'max':
      return weights.greater(0).where(hidden, -1e9).reduceMax([1]);
    default: {
      // The last (or first) token is where the count of tokens from that end first reaches 1, whichever side the padding is on.
      const count = mask.op('CumSum', [axis], { reverse: pooling === 'lasttoken' ? 1 : 0 });
      const chosen = count.float().mul(mask.float()).equal(1).float().unsqueeze(-1);
      return hidden.mul(chosen).sum([1]);
    }
  }
}
