/** @file One training step of a cross-encoder as one graph: pairs in; losses and the gradient of every weight out. */
import { InputError } from '../common/errors.ts';
import { differentiate } from '../engine/autodiff/differentiate.ts';
import { Expr } from '../engine/expressions/expr.ts';
import { fuse } from '../engine/graph/fuse.ts';
import { Graph, type Value } from '../engine/graph/ir.ts';
import { normalize } from '../engine/graph/normalize.ts';
import { trainableConstants } from '../engine/graph/parameters.ts';
import { castFloat, sizeOf, type Tensor, tensor } from '../engine/graph/tensor.ts';
import { firstNotFiniteValue } from '../engine/runtime/not-finite.ts';
import { probe } from '../engine/runtime/probe.ts';
import { Session, type SessionOptions } from '../engine/runtime/session.ts';
import { type LossInputs, reduce } from '../losses/loss.ts';
import type { Parameter, StepResult, TokenBatch, WeightedLoss } from './step-graph.ts';

export interface PairGraphOptions {
  /** The cross-encoder as loaded from its file: `logits` [pairs, 1]. */
  model: Graph;
  /** Losses over `student` (the logits), `teacher` (labels or another model's scores) and `mask`, all [B, N]. */
  losses: readonly WeightedLoss[];
  /** Pairs are read in groups, each padded to its own longest. */
  groups: number;
  session?: SessionOptions;
}

export interface PairBatch {
  /** Positions of the batch's examples. */
  exampleIds: readonly number[];
  /** The step's pairs, in groups of like length. */
  pairs: readonly TokenBatch[];
  /** [B, N] each candidate's position among the pairs, in the order of the groups; 0 for padding. */
  places: Tensor<'int64'>;
  /** [B, N] what the logits should say. */
  targets: Tensor;
  /** [B, N] 1 for a candidate, 0 for padding. */
  mask: Tensor;
  /** [B] a factor for each query's loss. */
  weights: Tensor;
}

/** Tables with fewer rows than this get a whole gradient: there is nothing to save. */
const ROW_TABLE_MINIMUM = 256;
const TOKEN_INPUTS = ['input_ids', 'attention_mask', 'token_type_ids'];

export class PairGraph {
  readonly parameters: readonly Parameter[];
  private readonly session: Session;
  private readonly built: Awaited<ReturnType<typeof build>>;
  private readonly feeds: Record<string, Tensor> = {};
  private readonly into: Record<string, Tensor> = {};

  private constructor(built: Awaited<ReturnType<typeof build>>, session: Session) {
    this.built = built;
    this.session = session;
    this.parameters = built.parameters.map(({ name, tensor: t }) => {
      const data = Float32Array.from(t.data as Float32Array);
      this.feeds[name] = { dtype: 'float32', dims: t.dims, data };
      const whole = built.wholes.get(name);
      const gradient = whole ? new Float32Array(data.length) : undefined;
      if (whole && gradient) this.into[whole] = { dtype: 'float32', dims: t.dims, data: gradient };
      return { name, dims: t.dims, data, gradient };
    });
  }

  /** @throws InputError where an operator has no gradient rule or the model gives no single logit */
  static async create(options: PairGraphOptions): Promise<PairGraph> {
    const built = await build(options);
    return new PairGraph(built, await Session.load(built.graph, options.session, 'the training graph'));
  }

  /** The first value of a batch's step that is not finite; runs the step again. */
  inspect(batch: PairBatch): Promise<string | undefined> {
    return firstNotFiniteValue(this.built.graph, this.feedsOf(batch));
  }

  private feedsOf(batch: PairBatch): Record<string, Tensor> {
    const feeds: Record<string, Tensor> = {
      ...this.feeds,
      places: batch.places,
      teacher: batch.targets,
      mask: batch.mask,
      weights: batch.weights,
    };
    for (const [g, { rows, length, ids, mask, typeIds }] of batch.pairs.entries())
      for (const [i, data] of [ids, mask, typeIds].entries())
        feeds[`pairs${g}.${TOKEN_INPUTS[i]}`] = { dtype: 'int64', dims: [rows, length], data };
    return Object.fromEntries(this.session.inputs.map((name) => [name, feeds[name]]));
  }

  /** Runs forward and backward once: `parameters[i].gradient` and `.rows` then hold the gradients. */
  async run(batch: PairBatch): Promise<StepResult> {
    const wanted = this.feedsOf(batch);
    const results = await this.session.run(wanted, this.into);
    for (const p of this.parameters) {
      const rows = this.built.rows.get(p.name);
      if (rows)
        p.rows = rows.map((r) => ({
          indices: results[r.indices].data as BigInt64Array,
          rows: results[r.rows].data as Float32Array,
        }));
    }
    const number = (name: string): number => Number(results[name].data[0]);
    return { loss: number(this.built.total), terms: this.built.terms.map(number) };
  }

  async release(): Promise<void> {
    await this.session.release();
  }
}

async function build({ model, losses, groups }: PairGraphOptions) {
  const source = model.clone();
  const trainable = new Set(trainableConstants(source));
  normalize(source, 'the cross-encoder');
  fuse(source);
  const logits = source.outputs.find((v) => v.name === 'logits') ?? source.outputs[0];
  source.outputs.splice(0, source.outputs.length, logits);
  source.prune();

  const graph = new Graph(source.opset);
  const parameters: { name: string; tensor: Tensor; value: Value }[] = [];
  const parameterOf = new Map<Value, Value>();
  for (const v of source.constants) {
    if (!trainable.has(v) || !v.constant) continue;
    const weights = castFloat(v.constant, 'float32');
    const value = graph.input(v.name, 'float32', weights.dims);
    parameters.push({ name: v.name, tensor: weights, value });
    parameterOf.set(v, value);
  }
  const read = (prefix: string): Expr => {
    const inputs = new Map<string, Value>();
    for (const v of source.inputs) {
      if (!TOKEN_INPUTS.includes(v.name))
        throw new InputError({
          code: 'train.input',
          subject: `the cross-encoder wants an input '${v.name}'`,
          expected: TOKEN_INPUTS.join(', '),
          remedy: 'export the model without it',
        });
      inputs.set(v.name, graph.input(`${prefix}.${v.name}`, 'int64', [`${prefix}_rows`, `${prefix}_length`]));
    }
    const map = graph.embed(source, (v) => parameterOf.get(v) ?? inputs.get(v.name), `${prefix}/`);
    return new Expr(graph, map.get(logits) as Value).reshape(-1); // [pairs of the group]
  };
  const parts = Array.from({ length: groups }, (_, g) => read(`pairs${g}`));
  const scores = parts.length > 1 ? parts[0].concat(parts.slice(1), 0) : parts[0]; // [pairs]
  const given = (name: string, dtype: 'float32' | 'int64', dims: string[]): Expr =>
    new Expr(graph, graph.input(name, dtype, dims));
  const inputs = {
    student: scores.gather(given('places', 'int64', ['queries', 'candidates'])), // [B, N]
    teacher: given('teacher', 'float32', ['queries', 'candidates']),
    mask: given('mask', 'float32', ['queries', 'candidates']),
  } as LossInputs;
  const weights = given('weights', 'float32', ['queries']);
  const terms = losses.map(({ loss }) => reduce(loss.perQuery(inputs), weights));
  if (!terms.length)
    throw new InputError({ code: 'train.no-loss', subject: 'no loss is given', remedy: 'name at least one' });
  const total = terms.map((t, i) => t.mul(losses[i].weight)).reduce((a, b) => a.add(b));
  graph.outputs.push(total.value, ...terms.map((t) => t.value));
  graph.prune();
  graph.inputs.splice(0, graph.inputs.length, ...graph.inputs.filter((v) => v.readers.size));

  const shapes = await probe(graph, [sampleFeeds(graph, parameters, 0), sampleFeeds(graph, parameters, 1)]);
  const live = parameters.filter((p) => p.value.readers.size);
  const tables = live.filter((p) => p.tensor.dims.length === 2 && p.tensor.dims[0] >= ROW_TABLE_MINIMUM);
  const gradients = differentiate(
    graph,
    total.value,
    live.map((p) => p.value),
    shapes,
    { asRows: new Set(tables.map((p) => p.value)) },
  );
  const wholes = new Map<string, string>();
  const rows = new Map<string, { indices: string; rows: string }[]>();
  const emit = (v: Value, name: string): string => {
    const own = new Expr(graph, v).op('Identity').value;
    graph.output(own, name);
    return own.name;
  };
  for (const [p, g] of gradients) {
    if ('dense' in g) wholes.set(p.name, emit(g.dense, `gradient:${p.name}`));
    else
      rows.set(
        p.name,
        g.rows.map((r, i) => ({
          indices: emit(r.indices, `indices${i}:${p.name}`),
          rows: emit(r.rows, `rows${i}:${p.name}`),
        })),
      );
  }
  graph.prune();
  return { graph, parameters: live, total: total.value.name, terms: terms.map((t) => t.value.name), wholes, rows };
}

/** Feeds of two sizes in which no two dimensions that can differ are equal. */
function sampleFeeds(
  graph: Graph,
  parameters: readonly { name: string; tensor: Tensor }[],
  k: 0 | 1,
): Record<string, Tensor> {
  const weights = new Map(parameters.map((p) => [p.name, p.tensor]));
  const size = (dim: number | string): number => {
    if (typeof dim === 'number') return dim;
    if (dim === 'queries') return [5, 7][k];
    if (dim === 'candidates') return [3, 4][k];
    const group = Number(/^pairs(\d+)_/.exec(dim)?.[1]);
    // Short, so that models with few positions can read them.
    return 2 * group + (dim.endsWith('length') ? [6, 9][k] : [21, 25][k]);
  };
  return Object.fromEntries(
    graph.inputs.map((v) => {
      const dims = (v.dims ?? []).map(size);
      const ones = new Float32Array(sizeOf(dims)).fill(v.name === 'places' || v.name.endsWith('type_ids') ? 0 : 1);
      return [v.name, weights.get(v.name) ?? tensor(v.dtype === 'int64' ? 'int64' : 'float32', dims, ones)];
    }),
  );
}
