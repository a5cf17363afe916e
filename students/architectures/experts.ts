/** @file Experts in place of the feed-forward network: GLaM's choice by token, and Expert Choice. */
import { z } from 'zod';
import { concatenated, constant, Expr } from '../../engine/expressions/expr.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import { defineArchitecture, type Statistics, zerosOf } from './architecture.ts';
import { copyOf, type FeedForward, findFeedForward, instead } from './feed-forward.ts';

const count = z.int().positive();

/**
 * Each expert starts as the dense network ("upcycled"), so that the output at the start equals the dense one: exactly where a token
 * chooses, and for the tokens that some expert chose where experts choose.
 *
 * @source Du et al., ICML 2022 (arXiv 2112.06905); Zhou et al., NeurIPS 2022 (arXiv 2202.09368); Komatsuzaki et al., ICLR 2023 (arXiv
 * 2212.05055) for the start
 */
export const experts = defineArchitecture({
  options: {
    experts: count.default(8).describe('experts a layer'),
    routing: z
      .enum(['token', 'expert'])
      .default('token')
      .describe('token: each token chooses its best experts; expert: each expert chooses its best tokens of a text'),
    chosen: count.default(2).describe('token: experts that a token goes to'),
    capacity: z
      .number()
      .positive()
      .default(2)
      .describe('expert: experts that a token has on average; an expert takes tokens x capacity / experts of a text'),
  },
  part: 'feed-forward',
  describe: (o) =>
    o.routing === 'token'
      ? `${o.experts} experts, ${o.chosen} by token`
      : `${o.experts} experts that choose their tokens, capacity ${o.capacity}`,
  rewrite(place, { experts: E, routing, chosen, capacity }, random) {
    const { graph, number, mask } = place;
    const network = findFeedForward(place);
    const { input, width } = network;
    const start = Float32Array.from({ length: width * E }, () => ROUTER * random.normal());
    const router = new Expr(
      graph,
      graph.constant({ dtype: 'float32', dims: [width, E], data: start }, `router.${number}`),
    );
    const x = new Expr(graph, input);
    const logits = x.matmul(router); // [B, L, E]
    const shown = mask.float().unsqueeze(-1);
    const { gates, statistics } =
      routing === 'token' ? byToken(logits, shown, Math.min(chosen, E)) : byExpert(logits, mask, E, capacity);
    instead(graph, network.output, dispatched(graph, network, x, gates.mul(shown), E));
    return statistics;
  },
});

/** Deviation of a router's weights at the start: experts are equal then, and tokens spread over them. */
const ROUTER = 0.02;

/** Probabilities over the experts. Written without Softmax, by which the attention of a layer is found. */
const probabilities = (logits: Expr): Expr => logits.logSoftmax(-1).exp();

interface Routing {
  /** [B, L, E] weight of each expert in a token's sum; 0 where it is not chosen. */
  gates: Expr;
  statistics: Statistics;
}

/** g = softmax over the chosen experts' logits, 0 elsewhere. */
function byToken(logits: Expr, shown: Expr, chosen: number): Routing {
  const [best, which] = logits.ops('TopK', [logits.ints(chosen)], 2, { axis: -1 });
  const empty = zerosOf(logits.shape());
  const gates = empty.op('ScatterElements', [which, probabilities(best)], { axis: -1 });
  const one = zerosOf(best.slice(0, 1, -1).shape()).add(1);
  const first = empty.op('ScatterElements', [which.slice(0, 1, -1), one], { axis: -1 });
  return {
    gates,
    statistics: {
      gates: probabilities(logits).mul(shown).sum([1]),
      routed: first.mul(shown).sum([1]).stopGradient(),
    },
  };
}

/**
 * Each expert takes the k = ceil(n c / E) tokens of a text, of n, with the largest probability of it; weights of a token's experts are
 * divided by their sum. Texts are routed one by one, so that a text's vector does not depend on its batch.
 */
export function byExpert(logits: Expr, mask: Expr, E: number, capacity: number): Routing {
  const scores = probabilities(logits).transpose(0, 2, 1); // [B, E, L]
  const real = mask.unsqueeze(1).greater(mask.ints(0)); // [B, 1, L]
  const share = capacity / E;
  const takes = (tokens: Expr): Expr => tokens.mul(share).sub(1e-4).op('Ceil').min(tokens);
  const length = logits.op('Shape', [], { start: 1, end: 2 });
  const [best, which] = real.where(scores, -1).ops('TopK', [length], 2, { axis: -1 });
  const rank = constant(logits.graph, 'int64', [], [0]).op('Range', [
    length.squeeze(0),
    constant(logits.graph, 'int64', [], [1]),
  ]);
  const own = takes(mask.float().sum([1], true)).unsqueeze(-1); // [B, 1, 1]
  const taken = rank.float().less(own).where(best, 0);
  const chosen = zerosOf(scores.shape()).op('ScatterElements', [which, taken], { axis: -1 }).transpose(0, 2, 1);
  return { gates: chosen.div(chosen.sum([-1], true).max(1e-9)), statistics: {} };
}

/**
 * sum_e g_e FFN_e(x) with each expert computed for its own tokens alone: their rows are gathered, and what it gives is added to its
 * place. Padding goes to no expert.
 */
function dispatched(graph: Graph, network: FeedForward, x: Expr, gates: Expr, E: number): Expr {
  const flat = x.reshape(-1, network.width); // [n, D]
  const columns =
    E > 1 ? gates.reshape(-1, E).ops('Split', [], E, { axis: 1, num_outputs: E }) : [gates.reshape(-1, 1)];
  const parts = columns.map((column, e) => {
    const gate = column.reshape(-1); // [n]
    const at = gate.greater(0).op('NonZero').transpose(1, 0); // [m, 1]
    const rows = flat.op('GatherND', [at]).unsqueeze(0); // [1, m, D]
    const made = copyOf(graph, network, rows, `expert${e}`).squeeze(0);
    return { at, rows: made.mul(gate.op('GatherND', [at]).unsqueeze(-1)) };
  });
  const join = (part: (p: (typeof parts)[number]) => Expr): Expr => concatenated(parts.map(part), 0);
  const sum = zerosOf(flat.shape()).op('ScatterND', [join((p) => p.at), join((p) => p.rows)], { reduction: 'add' });
  return sum.reshapeTo(x.shape());
}
