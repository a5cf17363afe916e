/** @file From token vectors to one vector a text. */
import { constant, type Expr } from './expr.ts';

/** All poolings, by the names that configs use. */
export const poolings = ['mean', 'cls', 'lasttoken', 'max'] as const;
/** How token vectors become one vector a text. */
export type Pooling = (typeof poolings)[number];

/**
 * @param hidden [B, L, D] token vectors
 * @param mask [B, L] int64, 1 where there is a token
 * @returns [B, D]
 */
export function pool(hidden: Expr, mask: Expr, pooling: Pooling): Expr {
  if (pooling === 'cls') return hidden.gather(constant(hidden.graph, 'int64', [], [0]), 1);
  const weights = mask.float().unsqueeze(-1); // [B, L, 1]
  // A text without a token (all padding) gives the zero vector rather than 0 / 0.
  if (pooling === 'mean')
    return hidden
      .mul(weights)
      .sum([1])
      .div(weights.sum([1]).max(1e-9));
  if (pooling === 'max') return weights.greater(0).where(hidden, -1e9).reduceMax([1]);
  // The last token is where the count of tokens so far first reaches its end, whichever side the padding is on.
  const axis = constant(hidden.graph, 'int64', [], [1]);
  const fromEnd = mask.op('CumSum', [axis], { reverse: 1 }); // [B, L]: 1 at the last token
  const last = fromEnd.float().mul(mask.float()).equal(1).float().unsqueeze(-1);
  return hidden.mul(last).sum([1]);
}
