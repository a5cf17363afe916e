/** @file L1 of hidden units: most units of a student's feed-forward networks become 0. */
import { defineLoss, type Loss, ofStep } from './loss.ts';
import { withDefaults } from './options.ts';

/**
 * The mean absolute value of the hidden units of a student's feed-forward networks, over units, tokens, layers and all texts of the
 * step; the same for every query.
 *
 * @example
 * import { activationL1 } from 'onnx-distill/losses';
 * const { loss } = await activationL1().evaluate({ queries: [[0]], activations: [[0.2, 0.4], [0.1, 0.1]] });
 * loss; // 0.2
 * @source Li et al., ICLR 2023, "The Lazy Neuron Phenomenon" (arXiv 2210.06313); the penalty is ours
 */
export function activationL1(given: Record<never, never> = {}): Loss {
  withDefaults(activationL1.options, given);
  return defineLoss({
    name: 'activation-l1',
    needs: ['queries', 'activations'],
    perQuery: ({ queries, activations }) => ofStep(activations.mean([0, 1]).unsqueeze(0), queries),
  });
}
activationL1.options = {};
