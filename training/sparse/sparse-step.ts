/**
 * @file The training step of a sparse student as one graph: documents as weights of a part of the vocabulary, queries as weights of
 * their tokens, the losses over their products, and the gradient of every weight.
 */
import { InputError } from '../../common/errors.ts';
import { differentiate } from '../../engine/autodiff/differentiate.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph, type Value } from '../../engine/graph/ir.ts';
import { castFloat, sizeOf, type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { fuse } from '../../engine/passes/fuse.ts';
import { normalize } from '../../engine/passes/normalize.ts';
import { trainableConstants } from '../../engine/passes/trainable-parameters.ts';
import { probe } from '../../engine/runtime/infer-shapes.ts';
import { onProcessor, type SessionOptions } from '../../engine/runtime/session.ts';
import { inputsFrom, lossInputs } from '../../losses/inputs.ts';
import { type LossInputs, reduce } from '../../losses/loss.ts';
import type { StepBatch } from '../batches/batches.ts';
import { groupByLength, groupForDevice } from '../batches/length-groups.ts';
import { tokenFeeds } from '../step/assemble.ts';
import { refuseOtherInputs } from '../step/encoder-graph.ts';
import type { WeightedLoss } from '../step/loss-graph.ts';
import { type DifferentiatedStep, formsOn } from '../step/training-step.ts';
import { drawColumns } from './columns.ts';

/** What a sparse student is made of. */
export interface SparseModel {
  /** Ids and mask in; the token states that are multiplied by the word table out, [R, L, D]. */
  graph: Graph;
  /** Name of the word table [V, D] among the graph's constants. */
  table: string;
  /** [V, 1] what is added to the products of each token. */
  bias: Tensor<'float32'>;
  /** [V, 1] what each token of a query weighs. */
  queries: Tensor<'float32'>;
  /** Whether those are trained. */
  learned: boolean;
}

export interface SparseStepOptions {
  model: SparseModel;
  losses: readonly WeightedLoss[];
  /** Columns of the vocabulary a step. */
  columns: number;
  /** Steps of the training, which the ramps of losses are shares of. */
  steps: number;
  /** Groups of documents of similar length. */
  groups?: number;
  session?: SessionOptions;
  positions?: number;
  seed?: number;
}

/** Names of the weights that are not the encoder's. */
export const BIAS = 'cls.predictions.bias';
export const QUERIES = 'query.weight';

const GROUPS = { host: 4, device: 2 };
/** Tables with fewer rows than this get a dense gradient: row gradients would save nothing. */
const ROW_TABLE_MINIMUM = 256;
/** Added to products at padding: below every bias. */
const PADDING = -1e4;

/**
 * With h_l the states of a document's tokens, E the word table and b the biases, document d's weight of token j is
 *
 *     w_dj = log(1 + relu(max_l h_l E_j + b_j))
 *
 * for the columns j of the step alone, so that memory is tokens x columns and not tokens x vocabulary.
 *
 * @param processor whether it will run on a CPU and not on a device
 * @throws InputError if an operator has no gradient rule, an input is not a tokenizer's or a loss reads what there is not
 * @source Formal, Piwowarski and Clinchant, SIGIR 2021; max pooling: arXiv 2109.10086; queries without inference: arXiv 2411.04403
 */
export async function sparseStep(
  options: SparseStepOptions,
  processor = onProcessor(options.session),
): Promise<DifferentiatedStep<StepBatch>> {
  const { model, losses, columns, seed = 0 } = options;
  const groups = options.groups ?? (processor ? GROUPS.host : GROUPS.device);
  const source = model.graph.clone();
  const trainable = new Set(trainableConstants(source));
  normalize(source, 'the student');
  fuse(source);
  source.prune();
  const graph = new Graph(source.opset);
  const weights = new Map<string, { tensor: Tensor<'float32'>; value: Value }>();
  const add = (name: string, start: Tensor<'float32'>): Value => {
    const value = graph.input(name, 'float32', start.dims);
    weights.set(name, { tensor: start, value });
    return value;
  };
  const weightOf = new Map<Value, Value>();
  for (const v of source.constants)
    if (trainable.has(v) && v.constant) weightOf.set(v, add(v.name, castFloat(v.constant, 'float32')));
  const table = weights.get(model.table);
  if (!table)
    throw new InputError({
      code: 'sparse.table',
      subject: `the student's word table '${model.table}' is not a weight of its graph`,
      remedy: 'export the encoder with float weights',
    });
  // A number: the gradient of a product is taken by its width.
  const C = Math.min(columns, model.bias.dims[0]);
  const given = (name: string, dtype: 'float32' | 'int64', dims: (number | string)[]): Expr =>
    new Expr(graph, graph.input(name, dtype, dims));

  const ids = given('column_ids', 'int64', [C]);
  const words = new Expr(graph, table.value).gather(ids).transpose(1, 0); // [D, C]
  const bias = new Expr(graph, add(BIAS, model.bias)).gather(ids).transpose(1, 0); // [1, C]
  refuseOtherInputs(source);
  const read = (prefix: string): Expr => {
    const dims = [`${prefix}_rows`, `${prefix}_length`];
    const inputs = new Map<string, Value>();
    const mask = graph.input(`${prefix}.attention_mask`, 'int64', dims);
    for (const v of source.inputs) {
      inputs.set(v.name, v.name === 'attention_mask' ? mask : graph.input(`${prefix}.${v.name}`, 'int64', dims));
    }
    const map = graph.embed(source, (v) => weightOf.get(v) ?? inputs.get(v.name), `${prefix}/`);
    const states = new Expr(graph, map.get(source.outputs[0]) as Value); // [R, L, D]
    const hidden = new Expr(graph, mask).float().sub(1).mul(-PADDING).unsqueeze(2); // [R, L, 1]
    return states.matmul(words).add(hidden).reduceMax([1]).add(bias).relu().add(1).log(); // [R, C]
  };
  const parts = Array.from({ length: groups }, (_, g) => read(`documents${g}`));
  const texts = parts.length > 1 ? parts[0].concat(parts.slice(1), 0) : parts[0];
  const documents = texts.gather(given('documents_at', 'int64', ['documents'])); // [M, C]
  const asked = given('asked', 'float32', ['queries', C]);
  // Without training the weights are constants of the host, which feeds them.
  const queries = model.learned
    ? asked.mul(new Expr(graph, add(QUERIES, model.queries)).gather(ids).transpose(1, 0))
    : asked;
  const candidates = given('candidates', 'int64', ['queries', 'candidates']);
  const inputs = {
    ...Object.fromEntries(
      inputsFrom('batch')
        .filter((name) => !(lossInputs[name].dims as readonly string[]).includes('teacherWidth'))
        .map((name) => [name, given(name, 'float32', [...lossInputs[name].dims])]),
    ),
    candidates,
    queries,
    documents,
    columns: given('column_counts', 'float32', [C]),
    student: queries.matmul(documents.transpose(1, 0)).gatherElements(candidates, 1),
  } as unknown as LossInputs;
  for (const { loss } of losses) {
    const missing = loss.needs.find((name) => !(name in inputs));
    if (missing)
      throw new InputError({
        code: 'sparse.loss',
        subject: `the loss '${loss.name}' reads '${missing}', which a sparse student's step does not have`,
        remedy: 'use kl, margin-mse, info-nce, mse, bce or rank-distil',
      });
  }
  if (!losses.length)
    throw new InputError({ code: 'train.no-loss', subject: 'no loss is given', remedy: 'name at least one' });
  const factors = given('weights', 'float32', ['queries']);
  const terms = losses.map(({ loss }) => reduce(loss.perQuery(inputs), factors));
  const total = terms
    .map((t, i) => {
      const weighted = t.mul(losses[i].weight);
      return losses[i].loss.ramp ? weighted.mul(given(`ramp${i}`, 'float32', [])) : weighted;
    })
    .reduce((a, b) => a.add(b));
  graph.setOutputs(total.value, ...terms.map((t) => t.value));
  graph.dropUnused();

  const start = new Map([...weights].filter(([, w]) => w.value.readers.size).map(([name, w]) => [name, w.tensor]));
  const shapes = await probe(graph, [sampleFeeds(graph, start, 0), sampleFeeds(graph, start, 1)]);
  const trained = [...start.keys()].map((name) => graph.inputs.find((v) => v.name === name) as Value);
  const isTable = ({ dims = [] }: Value): boolean => dims.length === 2 && Number(dims[0]) >= ROW_TABLE_MINIMUM;
  const gradients = differentiate(graph, total.value, trained, shapes, {
    asRows: new Set(trained.filter(isTable)),
    forms: formsOn(options.session, processor),
  });
  const vocabulary = model.bias.dims[0];
  return {
    graph,
    start,
    gradients: new Map([...gradients].map(([w, gradient]) => [w.name, gradient])),
    total: total.value.name,
    terms: terms.map((t) => t.value.name),
    feeds(batch, step) {
      const { padId = 0 } = batch;
      const grouped = processor
        ? groupByLength(batch.documents, groups, padId)
        : groupForDevice(batch.documents, groups, padId, options.positions);
      const drawn = drawColumns(batch.queries, batch.documents, { vocabulary, wanted: columns, seed, step });
      if (!drawn)
        throw new InputError({
          code: 'sparse.columns',
          subject: `the queries of a step have more distinct tokens than 'student.sparse.columns: ${columns}'`,
          remedy: 'compute more columns, or train on fewer queries a step',
        });
      const places = Array.from(grouped.places.flatMap((p) => Array.from(p)));
      return {
        ...Object.assign({}, ...grouped.groups.map((b, g) => tokenFeeds(`documents${g}.`, b))),
        documents_at: { dtype: 'int64', dims: [places.length], data: BigInt64Array.from(places) },
        column_ids: { dtype: 'int64', dims: [drawn.ids.length], data: BigInt64Array.from(drawn.ids, BigInt) },
        column_counts: { dtype: 'float32', dims: [drawn.ids.length], data: drawn.counts },
        asked: askedOf(batch, drawn.ids, model.learned ? undefined : model.queries.data),
        candidates: batch.candidates,
        weights: batch.weights,
        ...Object.fromEntries(Object.entries(batch.arrays).filter(([, a]) => a) as [string, Tensor][]),
        ...Object.fromEntries(
          losses.map(({ loss }, i) => [`ramp${i}`, scalar(rampAt(step, loss.ramp, options.steps))]),
        ),
      };
    },
  };
}

/** min(1, t / T)^2 with T the share of the steps, t counted from 1. */
export const rampAt = (step: number, share: number | undefined, steps: number): number =>
  share ? Math.min(1, (step + 1) / Math.max(1, share * steps)) ** 2 : 1;

const scalar = (value: number): Tensor => ({ dtype: 'float32', dims: [], data: Float32Array.of(value) });

/** [B, C] 1, or the token's weight, where a query has a token: how often does not matter, as in sentence-transformers. */
function askedOf({ queries }: StepBatch, columns: Int32Array, weights?: Float32Array): Tensor {
  const place = new Map(Array.from(columns, (id, c) => [id, c]));
  const C = columns.length;
  const data = new Float32Array(queries.rows * C);
  for (let i = 0; i < queries.ids.length; i++) {
    if (!queries.mask[i]) continue;
    const id = Number(queries.ids[i]);
    data[Math.floor(i / queries.length) * C + (place.get(id) as number)] = weights ? weights[id] : 1;
  }
  return { dtype: 'float32', dims: [queries.rows, C], data };
}

/** Feeds of two sizes in which no two dimensions that can differ are equal. */
function sampleFeeds(graph: Graph, weights: ReadonlyMap<string, Tensor>, k: 0 | 1): Record<string, Tensor> {
  const named: Record<string, number> = {
    queries: [5, 7][k],
    candidates: [3, 4][k],
    documents: [13, 17][k],
  };
  const size = (dim: number | string): number => {
    if (typeof dim === 'number') return dim;
    const group = Number(/^documents(\d+)_/.exec(dim)?.[1]);
    return named[dim] ?? 2 * group + (dim.endsWith('length') ? [6, 9][k] : [41, 45][k]);
  };
  return Object.fromEntries(
    graph.inputs.map((v) => {
      const dims = (v.dims ?? []).map(size);
      // Ids and positions of 0 are valid everywhere.
      const zero = v.dtype === 'int64' && !v.name.endsWith('attention_mask');
      const data = new Float32Array(sizeOf(dims)).fill(zero ? 0 : 1);
      return [v.name, weights.get(v.name) ?? tensor(v.dtype ?? 'float32', dims, data)];
    }),
  );
}
