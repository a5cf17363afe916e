/** @file Which attention heads and hidden units of an encoder to keep: Sequential Attention on embedding matching. */
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { differentiate } from '../engine/differentiate.ts';
import { Expr } from '../engine/expressions/expr.ts';
import { type Pooling, pool } from '../engine/expressions/pooling.ts';
import type { Graph } from '../engine/graph/ir.ts';
import type { Tensor } from '../engine/graph/tensor.ts';
import { Session } from '../engine/runtime/session.ts';
import { Random } from '../math/random.ts';
import { SequentialAttention } from '../math/sequential-attention.ts';
import { type Kept, maskNames, widthsOf, withMasks } from '../students/narrow/narrow.ts';
import type { TokenBatch } from './batches/length-groups.ts';
import { tokenFeeds } from './step/assemble.ts';

/** How many heads and hidden units of each layer are kept, and how they are chosen. */
export interface UnitOptions {
  heads: number;
  units: number;
  pooling: Pooling;
  /** Gradients that decide a phase. */
  rounds?: number;
  seed?: number;
}

/** Most phases of a choice: several units are chosen at a time where there would be more. */
const PHASES = 16;
const TARGET = 'whole';

/**
 * The heads and hidden units of each layer under whose masks the vectors of texts stay nearest to those of the whole encoder: 1 - cosine,
 * by Sequential Attention, whose masks of all layers are learned together while the encoder's weights stay.
 *
 * @param encoder ids and mask in, token vectors out; it is not changed
 * @param draw the texts of a step
 * @returns of each layer, in ascending order
 * @throws InputError where a layer has fewer, or has no heads and units of a known form
 */
export async function selectUnits(
  encoder: Graph,
  draw: (step: number) => TokenBatch,
  { heads, units, pooling, rounds = 20, seed = 0 }: UnitOptions,
  watch: RunControl = {},
): Promise<Kept[]> {
  const graph = encoder.clone();
  const widths = await widthsOf(graph);
  for (const [layer, own] of widths.entries())
    if (heads > own.heads || units > own.units)
      throw new InputError({
        code: 'narrow.widths',
        subject: `layer ${layer} has ${own.heads} heads and ${own.units} hidden units`,
        received: `${heads} heads, ${units} units`,
        remedy: 'keep at most as many',
      });
  const masks = await withMasks(graph);
  const mask = graph.inputs.find((v) => v.name === 'attention_mask');
  const states = new Expr(graph, graph.outputs[0]);
  const vectors = pool(states, new Expr(graph, mask as NonNullable<typeof mask>), pooling).l2Normalize();
  const target = new Expr(graph, graph.input(TARGET, 'float32', ['rows', 'columns']));
  const loss = vectors.mul(target).sum([-1]).mean([0]).rsub(1);
  for (const v of graph.inputs) if (v.dtype === 'int64') v.dims = ['rows', 'length'];
  graph.setOutputs();
  graph.output(loss.value, 'loss');
  graph.output(vectors.value, 'vectors');
  const inputs = masks.flatMap((m) => [m.heads, m.units]);
  const width = Number(encoder.outputs[0].dims?.[2]);
  const { gradients } = await differentiate(graph, [loss.value], inputs, { sizes: { columns: [width, width] } });
  const choices = new Map<string, SequentialAttention>();
  for (const [layer, own] of widths.entries())
    for (const [kind, keep] of [
      ['heads', heads],
      ['units', units],
    ] as const) {
      const phases =
        Array.from({ length: Math.min(PHASES, keep) }, (_, i) => PHASES - i).find((n) => keep % n === 0) ?? 1;
      const random = Random.of(seed, `sequential attention ${kind} ${layer}`);
      // Nothing but the masks is trained: there is nothing to warm up.
      const options = { features: own[kind], keep, step: keep / phases, rounds, warmup: 0, random };
      choices.set(maskNames(layer)[kind], new SequentialAttention(options));
    }
  const session = await Session.load(graph, {}, 'the choice of heads and units');
  try {
    const total = Math.max(...[...choices.values()].map((c) => c.steps));
    const ones = feedsOf(
      widths.flatMap((w, l) => [
        [maskNames(l).heads, new Float32Array(w.heads).fill(1)] as const,
        [maskNames(l).units, new Float32Array(w.units).fill(1)] as const,
      ]),
    );
    for (let step = 0; step < total; step++) {
      watch.signal?.throwIfAborted();
      const batch = draw(step);
      const tokens = tokenFeeds('', batch);
      const run = (given: Record<string, Tensor>) =>
        session.run(Object.fromEntries(session.inputs.map((name) => [name, given[name]])));
      const empty: Tensor = { dtype: 'float32', dims: [batch.rows, width], data: new Float32Array(batch.rows * width) };
      const whole = (await run({ ...tokens, ...ones, [TARGET]: empty })).vectors;
      const learned = feedsOf([...choices].map(([name, c]) => [name, Float32Array.from(c.mask())]));
      const found = await run({ ...tokens, ...learned, [TARGET]: whole });
      for (const [name, choice] of choices) choice.update(found[gradients[name]].data as Float32Array);
      watch.onProgress?.({ stage: 'select', done: step + 1, total, unit: 'steps', loss: Number(found.loss.data[0]) });
    }
  } finally {
    await session.release();
  }
  const chosen = (name: string): number[] => [...(choices.get(name)?.chosen ?? [])].sort((a, b) => a - b);
  return widths.map((_, l) => ({ heads: chosen(maskNames(l).heads), units: chosen(maskNames(l).units) }));
}

const feedsOf = (all: readonly (readonly [string, Float32Array])[]): Record<string, Tensor> =>
  Object.fromEntries(all.map(([name, data]) => [name, { dtype: 'float32', dims: [data.length], data }]));
