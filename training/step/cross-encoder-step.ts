/** @file One training step of a cross-encoder as one graph: pairs in; losses and the gradient of every weight out. */
import { InputError } from '../../common/errors.ts';
import { differentiate } from '../../engine/autodiff/differentiate.ts';
import type { Forms } from '../../engine/autodiff/rule.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph, type Value } from '../../engine/graph/ir.ts';
import { castFloat, sizeOf, type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { fuse } from '../../engine/passes/fuse.ts';
import { normalize } from '../../engine/passes/normalize.ts';
import { trainableConstants } from '../../engine/passes/trainable-parameters.ts';
import { probe } from '../../engine/runtime/infer-shapes.ts';
import { type LossInputs, reduce } from '../../losses/loss.ts';
import type { PairBatch } from '../batches/batches.ts';
import { tokenFeeds } from './assemble.ts';
import type { WeightedLoss } from './loss-graph.ts';
import type { DifferentiatedStep } from './training-step.ts';

export interface CrossEncoderStepOptions {
  /** The cross-encoder as loaded from its file: `logits` [pairs, 1]. */
  model: Graph;
  /** Losses over `student` (the logits), `teacher` (labels or another model's scores) and `mask`, all [B, N]. */
  losses: readonly WeightedLoss[];
  /** Number of groups of pairs, each padded to its longest pair. */
  groups: number;
  /** Outputs [pairs, 1] that learn the targets, every loss once each (the exits of a model); `logits` alone by default. */
  outputs?: readonly string[];
  /** Tokens that a row has at least; 0 by default. */
  leastLength?: number;
}

/** Tables with fewer rows than this get a dense gradient: row gradients would save nothing. */
const ROW_TABLE_MINIMUM = 256;
const TOKEN_INPUTS = ['input_ids', 'attention_mask', 'token_type_ids'];

export type CrossEncoderStep = DifferentiatedStep<PairBatch>;

/**
 * The step of a cross-encoder: losses as outputs, and the gradient of each weight as a value.
 *
 * @param forms what is fast where it will run
 * @throws InputError if an operator has no gradient rule or the model has no single logit
 */
export async function crossEncoderStep(
  { model, losses, groups, outputs = ['logits'], leastLength = 0 }: CrossEncoderStepOptions,
  forms: Forms = 'cpu',
): Promise<CrossEncoderStep> {
  const source = model.clone();
  const trainable = new Set(trainableConstants(source));
  normalize(source, 'the cross-encoder');
  fuse(source);
  const logits = outputs.map((name) => source.outputs.find((v) => v.name === name) ?? source.outputs[0]);
  source.setOutputs(...logits);
  source.prune();

  const graph = new Graph(source.opset);
  const weights: { name: string; tensor: Tensor; value: Value }[] = [];
  const weightOf = new Map<Value, Value>();
  for (const v of source.constants) {
    if (!trainable.has(v) || !v.constant) continue;
    const start = castFloat(v.constant, 'float32');
    const value = graph.input(v.name, 'float32', start.dims);
    weights.push({ name: v.name, tensor: start, value });
    weightOf.set(v, value);
  }
  const read = (prefix: string): Expr[] => {
    const inputs = new Map<string, Value>();
    for (const v of source.inputs) {
      if (!TOKEN_INPUTS.includes(v.name))
        throw new InputError({
          code: 'train.input',
          subject: `the cross-encoder needs an input '${v.name}'`,
          expected: TOKEN_INPUTS.join(', '),
          remedy: 'export the model without it',
        });
      inputs.set(v.name, graph.input(`${prefix}.${v.name}`, 'int64', [`${prefix}_rows`, `${prefix}_length`]));
    }
    const map = graph.embed(source, (v) => weightOf.get(v) ?? inputs.get(v.name), `${prefix}/`);
    return logits.map((v) => new Expr(graph, map.get(v) as Value).reshape(-1)); // [pairs of the group]
  };
  const parts = Array.from({ length: groups }, (_, g) => read(`pairs${g}`));
  const scores = logits.map((_, o) => {
    const own = parts.map((p) => p[o]);
    return own.length > 1 ? own[0].concat(own.slice(1), 0) : own[0]; // [pairs]
  });
  const given = (name: string, dtype: 'float32' | 'int64', dims: string[]): Expr =>
    new Expr(graph, graph.input(name, dtype, dims));
  const places = given('places', 'int64', ['queries', 'candidates']);
  const targets = {
    teacher: given('teacher', 'float32', ['queries', 'candidates']),
    mask: given('mask', 'float32', ['queries', 'candidates']),
  };
  const factors = given('weights', 'float32', ['queries']);
  const terms = losses.map(({ loss }) =>
    scores
      .map((own) => reduce(loss.perQuery({ ...targets, student: own.gather(places) } as LossInputs), factors)) // [B, N]
      .reduce((a, b) => a.add(b)),
  );
  if (!terms.length)
    throw new InputError({ code: 'train.no-loss', subject: 'no loss is given', remedy: 'name at least one' });
  const total = terms.map((t, i) => t.mul(losses[i].weight)).reduce((a, b) => a.add(b));
  graph.setOutputs(total.value, ...terms.map((t) => t.value));
  graph.dropUnused();

  const shapes = await probe(graph, [
    sampleFeeds(graph, weights, 0, leastLength),
    sampleFeeds(graph, weights, 1, leastLength),
  ]);
  const live = weights.filter((w) => w.value.readers.size);
  const tables = live.filter((w) => w.tensor.dims.length === 2 && w.tensor.dims[0] >= ROW_TABLE_MINIMUM);
  const gradients = differentiate(
    graph,
    total.value,
    live.map((w) => w.value),
    shapes,
    { asRows: new Set(tables.map((w) => w.value)), forms },
  );
  return {
    graph,
    start: new Map(live.map((w) => [w.name, w.tensor])),
    gradients: new Map([...gradients].map(([w, gradient]) => [w.name, gradient])),
    total: total.value.name,
    terms: terms.map((t) => t.value.name),
    feeds: (batch) => ({
      places: batch.places,
      teacher: batch.targets,
      mask: batch.mask,
      weights: batch.weights,
      ...Object.assign({}, ...batch.pairs.map((b, g) => tokenFeeds(`pairs${g}.`, b))),
    }),
  };
}

/** Feeds of two sizes in which no two dimensions that can differ are equal. */
function sampleFeeds(
  graph: Graph,
  parameters: readonly { name: string; tensor: Tensor }[],
  k: 0 | 1,
  least: number,
): Record<string, Tensor> {
  const weights = new Map(parameters.map((p) => [p.name, p.tensor]));
  const size = (dim: number | string): number => {
    if (typeof dim === 'number') return dim;
    if (dim === 'queries') return [5, 7][k];
    if (dim === 'candidates') return [3, 4][k];
    const group = Number(/^pairs(\d+)_/.exec(dim)?.[1]);
    // Short, so that models with few positions can read them.
    return 2 * group + (dim.endsWith('length') ? least + [6, 9][k] : [21, 25][k]);
  };
  return Object.fromEntries(
    graph.inputs.map((v) => {
      const dims = (v.dims ?? []).map(size);
      const ones = new Float32Array(sizeOf(dims)).fill(v.name === 'places' || v.name.endsWith('type_ids') ? 0 : 1);
      return [v.name, weights.get(v.name) ?? tensor(v.dtype === 'int64' ? 'int64' : 'float32', dims, ones)];
    }),
  );
}
