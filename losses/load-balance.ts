/** @file Load balance: the tokens of a step spread over the experts of a student's layers. */
import { defineLoss, type Loss, ofStep } from './loss.ts';
import { withDefaults } from './options.ts';

/**
 * With f_e the share of a layer's tokens whose first choice is expert e, P_e the mean of its probability, and E experts:
 *
 *     value = mean over layers of E sum_e f_e P_e
 *
 * over all texts of the step, the same for every query. It is 1 where tokens are spread evenly, and E where one expert gets all. Only P
 * has a gradient. Its weight is 0.01 in GLaM.
 *
 * @example
 * import { loadBalance } from 'onnx-distill/losses';
 * const given = { queries: [[0]], routed: [[3, 1]], gates: [[2.4, 1.6]] };
 * const { loss } = await loadBalance().evaluate(given);
 * loss; // 1.1
 * @source Du et al., ICML 2022 (arXiv 2112.06905); Shazeer et al., 2017 (arXiv 1701.06538)
 */
export function loadBalance(given: Record<never, never> = {}): Loss {
  withDefaults(loadBalance.options, given);
  return defineLoss({
    name: 'load-balance',
    needs: ['queries', 'gates', 'routed'],
    perQuery({ queries, gates, routed }) {
      // Of K columns, E a layer: sum_e f_e P_e over all layers is K sum r g / (sum r)^2 once E and the layers are multiplied out.
      const chosen = routed.stopGradient().sum([0]);
      const probabilities = gates.sum([0]);
      const columns = gates.op('Shape', [], { start: 1, end: 2 }).float();
      const total = chosen.sum([0], true).max(1);
      return ofStep(columns.mul(chosen.mul(probabilities).sum([0], true)).div(total.square()), queries);
    },
  });
}
loadBalance.options = {};
