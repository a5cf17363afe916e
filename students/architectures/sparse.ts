/** @file Feed-forward networks with few hidden units that are not zero: ReLU, and the k largest of a token. */
import { z } from 'zod';
import { InputError } from '../../common/errors.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import type { Value } from '../../engine/graph/ir.ts';
import { defineArchitecture, overTokens, type Place, type Statistics, zerosOf } from './architecture.ts';
import { type FeedForward, findFeedForward } from './feed-forward.ts';

/** The network whose hidden units are those before the activation. @throws InputError where it is gated */
function ungated(place: Place): FeedForward & { before: Value } {
  const network = findFeedForward(place);
  const { before } = network;
  if (!before)
    throw new InputError({
      code: 'architecture.gated',
      subject: `the feed-forward network of layer ${place.number} is gated`,
      expected: 'one product before its activation',
      remedy: 'choose another student.architecture for this encoder',
    });
  return { ...network, before };
}

/** Gives the second product other hidden units, and says how large they are. */
function withUnits({ second, hidden }: FeedForward, { mask }: Place, units: Expr): Statistics {
  second.replaceInput(hidden, units.value);
  return { activations: overTokens(units.abs().mean([-1]), mask) };
}

/**
 * ReLU in place of the activation. With the loss `activation-l1` most hidden units become 0.
 * @source Li et al., ICLR 2023, "The Lazy Neuron Phenomenon" (arXiv 2210.06313)
 */
export const relu = defineArchitecture({
  options: {},
  part: 'feed-forward',
  describe: () => 'ReLU',
  torch: () => ({ hidden_act: 'relu', activation: 'relu' }),
  rewrite(place) {
    const network = ungated(place);
    return withUnits(network, place, new Expr(place.graph, network.before).relu());
  },
});

/** ReLU, of which each token keeps its k largest hidden units; the gradient reaches these alone. @source as `relu` */
export const topK = defineArchitecture({
  options: { keep: z.int().positive().default(128).describe('hidden units that a token keeps') },
  part: 'feed-forward',
  describe: (o) => `the ${o.keep} largest hidden units of a token`,
  rewrite(place, { keep }) {
    const network = ungated(place);
    if (keep > network.units)
      throw new InputError({
        code: 'architecture.top-k',
        subject: `layer ${place.number} has ${network.units} hidden units`,
        received: `keep: ${keep}`,
        remedy: `keep at most ${network.units}`,
      });
    const all = new Expr(place.graph, network.before).relu();
    const [best, which] = all.ops('TopK', [all.ints(keep)], 2, { axis: -1, sorted: 0 });
    const kept = zerosOf(all.shape())
      .op('ScatterElements', [which, zerosOf(best.shape()).add(1)], { axis: -1 })
      .stopGradient();
    return withUnits(network, place, all.mul(kept));
  },
});
