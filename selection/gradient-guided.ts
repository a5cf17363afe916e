/** @file Selects queries in the direction of the student's loss gradient. */
import { countOf, dotRows, type Rows } from '../math/numbers.ts';
import { defineQuerySelection, largest, type QuerySelection } from './selection.ts';

/**
 * Ranks the pool by the distance along the loss's gradient from a chosen query:
 *
 *     value(q) = max_a <e_q - e_a, d L / d e_a>
 *
 * `gradients` has one row per query of `chosen`, in the same order; embeddings and gradients are of the student's queries.
 *
 * @source after the gradient exploration of Zaheer et al. 2022 (arXiv 2208.06825), which ascends the gradient and decodes;
 * selecting real queries instead is our variant
 */
export function gradientGuided(): QuerySelection {
  return defineQuerySelection('gradient-guided', ['embeddings', 'chosen', 'gradients'], (inputs, pool, budget) => {
    const rows = inputs.embeddings as Rows;
    const gradients = inputs.gradients as Rows;
    const anchors = Array.from(inputs.chosen ?? []).slice(0, countOf(gradients));
    const base = anchors.map((a, k) => dotRows(rows, a, gradients, k));
    const values = new Float64Array(inputs.count).fill(Number.NEGATIVE_INFINITY);
    for (const q of pool)
      for (let k = 0; k < anchors.length; k++)
        values[q] = Math.max(values[q], dotRows(rows, q, gradients, k) - base[k]);
    return { indices: largest(pool, values, budget) };
  });
}
