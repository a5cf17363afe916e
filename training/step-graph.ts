/** @file One training step as one graph: texts in; losses and the gradient of every weight out. */
import { InputError } from '../common/errors.ts';
import { differentiate } from '../engine/autodiff/differentiate.ts';
import { Expr } from '../engine/expressions/expr.ts';
import { type Pooling, pool } from '../engine/expressions/pooling.ts';
import { fuse } from '../engine/graph/fuse.ts';
import { Graph, type Value } from '../engine/graph/ir.ts';
import { normalize } from '../engine/graph/normalize.ts';
import { trainableConstants } from '../engine/graph/parameters.ts';
import { castFloat, type Tensor, tensor } from '../engine/graph/tensor.ts';
import { probe } from '../engine/runtime/probe.ts';
import { Session, type SessionOptions } from '../engine/runtime/session.ts';
import { type Loss, type LossInputs, reduce } from '../losses/loss.ts';

/** A loss with its share of the total. */
export interface WeightedLoss {
  loss: Loss;
  weight: number;
  /** What is asked of texts that only have a teacher's embedding, as if they were queries; its mean is added to the loss's. */
  extra?: Loss;
}

export interface StepGraphOptions {
  /** The student's encoder as loaded from its file. */
  encoder: Graph;
  pooling: Pooling;
  /** Whether embeddings are scaled to unit length. */
  normalize: boolean;
  losses: readonly WeightedLoss[];
  /** Texts are encoded in groups, each padded to its own longest: how many groups the documents form. */
  documentGroups?: number;
  /** Width of the documents' embeddings where they are given and not encoded (frozen documents). */
  frozenDocuments?: number;
  /** Width of the teacher's embeddings, where a loss matches them. */
  teacherWidth?: number;
  /** Whether a group of texts comes that only have a teacher's embedding (unlabelled queries, spans of documents). */
  extraTexts?: boolean;
  session?: SessionOptions;
  seed?: number;
}

/** A padded batch of token ids, row-major. */
export interface TokenBatch {
  rows: number;
  length: number;
  ids: BigInt64Array;
  mask: BigInt64Array;
  typeIds: BigInt64Array;
}

export interface StepBatch {
  queries: TokenBatch;
  /** One batch a group; empty where documents are frozen. */
  documents: readonly TokenBatch[];
  /** [M, D] where documents are frozen. */
  documentEmbeddings?: Tensor;
  /** [B, N] positions among the step's documents, in the order of the groups. */
  candidates: Tensor<'int64'>;
  /** float32 [B, N] and so on, by the losses' names for them. */
  arrays: Partial<Record<Exclude<keyof LossInputs, 'student' | 'queries' | 'documents' | 'projection'>, Tensor>>;
  /** [B] */
  weights: Tensor;
  extra?: { texts: TokenBatch; embeddings: Tensor };
}

export interface StepResult {
  /** The weighted total. */
  loss: number;
  /** Each loss's own mean, in the order given. */
  terms: number[];
}

/** What an optimizer needs of one parameter. */
export interface Parameter {
  readonly name: string;
  readonly dims: readonly number[];
  readonly data: Float32Array;
  /** The gradient as a whole, overwritten by every step; absent where only rows come. */
  readonly gradient?: Float32Array;
  /** The gradient as rows: each pair adds rows[i] to table row indices[i]. */
  rows?: { indices: BigInt64Array; rows: Float32Array }[];
}

const arrayNames = ['teacher', 'mask', 'positives', 'inBatch', 'owner', 'teacherQueries', 'teacherDocuments'] as const;

/** Tables with fewer rows than this get a whole gradient: there is nothing to save. */
const ROW_TABLE_MINIMUM = 256;

export class StepGraph {
  readonly parameters: readonly Parameter[];
  readonly graph: Graph;
  readonly groups: number;
  private readonly session: Session;
  private readonly options: StepGraphOptions;
  private readonly lossName: string;
  private readonly termNames: readonly string[];
  private readonly rowOutputs: ReadonlyMap<string, { indices: string; rows: string }[]>;
  private readonly feeds: Record<string, Tensor> = {};
  private readonly into: Record<string, Tensor> = {};

  private constructor(built: Awaited<ReturnType<typeof build>>, session: Session, options: StepGraphOptions) {
    this.graph = built.graph;
    this.groups = built.groups;
    this.session = session;
    this.options = options;
    this.lossName = built.lossName;
    this.termNames = built.termNames;
    this.rowOutputs = built.rowOutputs;
    this.parameters = built.parameters.map(({ name, tensor: t }) => {
      const data = Float32Array.from(t.data as Float32Array);
      this.feeds[name] = { dtype: 'float32', dims: t.dims, data };
      const dense = built.denseOutputs.get(name);
      const gradient = dense ? new Float32Array(data.length) : undefined;
      if (dense && gradient) this.into[dense] = { dtype: 'float32', dims: t.dims, data: gradient };
      return { name, dims: t.dims, data, gradient };
    });
  }

  /** @throws InputError where an operator has no gradient rule or the encoder has inputs that are not known */
  static async create(options: StepGraphOptions): Promise<StepGraph> {
    const built = await build(options);
    const session = await Session.load(built.graph, options.session, 'the training graph');
    return new StepGraph(built, session, options);
  }

  /** Runs forward and backward once: `parameters[i].gradient` and `.rows` then hold the gradients. */
  async run(batch: StepBatch): Promise<StepResult> {
    const feeds: Record<string, Tensor> = { ...this.feeds, ...batchFeeds(batch, this.options) };
    const wanted = Object.fromEntries(this.session.inputs.map((name) => [name, feeds[name]]));
    const results = await this.session.run(wanted, this.into);
    for (const p of this.parameters) {
      const outputs = this.rowOutputs.get(p.name);
      if (outputs)
        p.rows = outputs.map((o) => ({
          indices: results[o.indices].data as BigInt64Array,
          rows: results[o.rows].data as Float32Array,
        }));
    }
    return {
      loss: Number(results[this.lossName].data[0]),
      terms: this.termNames.map((n) => Number(results[n].data[0])),
    };
  }

  async release(): Promise<void> {
    await this.session.release();
  }
}

function batchFeeds(batch: StepBatch, options: StepGraphOptions): Record<string, Tensor> {
  const feeds: Record<string, Tensor> = {};
  const tokens = (prefix: string, b: TokenBatch): void => {
    const dims = [b.rows, b.length];
    feeds[`${prefix}.input_ids`] = { dtype: 'int64', dims, data: b.ids };
    feeds[`${prefix}.attention_mask`] = { dtype: 'int64', dims, data: b.mask };
    feeds[`${prefix}.token_type_ids`] = { dtype: 'int64', dims, data: b.typeIds };
  };
  tokens('queries', batch.queries);
  for (const [i, b] of batch.documents.entries()) tokens(`documents${i}`, b);
  if (options.frozenDocuments && batch.documentEmbeddings) feeds['documents'] = batch.documentEmbeddings;
  feeds['candidates'] = batch.candidates;
  feeds['weights'] = batch.weights;
  for (const name of arrayNames) if (batch.arrays[name]) feeds[name] = batch.arrays[name] as Tensor;
  if (batch.extra) {
    tokens('extra', batch.extra.texts);
    feeds['teacherExtra'] = batch.extra.embeddings;
  }
  return feeds;
}

async function build(options: StepGraphOptions) {
  const source = options.encoder.clone();
  const trainable = new Set(trainableConstants(source));
  normalize(source, 'the student');
  fuse(source);
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
  const hidden = source.outputs.find((v) => v.name === 'last_hidden_state') ?? source.outputs[0];
  source.outputs.splice(0, source.outputs.length, hidden);
  source.prune();

  const encode = (prefix: string): Expr => {
    const inputs = new Map<string, Value>();
    for (const v of source.inputs) {
      if (!['input_ids', 'attention_mask', 'token_type_ids'].includes(v.name))
        throw new InputError({
          code: 'student.input',
          subject: `the student wants an input '${v.name}'`,
          expected: 'input_ids, attention_mask and perhaps token_type_ids',
          remedy: 'export the encoder without it',
        });
      inputs.set(v.name, graph.input(`${prefix}.${v.name}`, 'int64', [`${prefix}_rows`, `${prefix}_length`]));
    }
    const mask =
      inputs.get('attention_mask') ??
      graph.input(`${prefix}.attention_mask`, 'int64', [`${prefix}_rows`, `${prefix}_length`]);
    const map = graph.embed(source, (v) => parameterOf.get(v) ?? inputs.get(v.name), `${prefix}/`);
    const embedding = pool(new Expr(graph, map.get(hidden) as Value), new Expr(graph, mask), options.pooling);
    return options.normalize ? embedding.l2Normalize() : embedding;
  };

  const groups = options.frozenDocuments ? 0 : (options.documentGroups ?? 1);
  const given = (name: string, dtype: 'float32' | 'int64', dims: (number | string)[]): Expr =>
    new Expr(graph, graph.input(name, dtype, dims));
  const queries = encode('queries');
  let documents: Expr;
  if (options.frozenDocuments) documents = given('documents', 'float32', ['documents', options.frozenDocuments]);
  else {
    const parts = Array.from({ length: groups }, (_, i) => encode(`documents${i}`));
    documents = parts.length > 1 ? parts[0].concat(parts.slice(1), 0) : parts[0];
  }
  const width = widthOf(
    source,
    hidden,
    parameters.map((p) => p.tensor),
  );
  const teacherWidth = options.teacherWidth;
  let projection: Expr | undefined;
  const learnProjection = (from: number, to: number): Expr => {
    const value = graph.input('projection', 'float32', [from, to]);
    parameters.push({ name: 'projection', tensor: identity(from, to), value });
    return new Expr(graph, value);
  };
  if (teacherWidth && width && teacherWidth !== width) projection = learnProjection(width, teacherWidth);
  // Over frozen documents the projection stays at serving time: queries are compared in the documents' space.
  const searching =
    options.frozenDocuments && projection ? projected(queries.matmul(projection), options.normalize) : queries;
  const scores = searching.matmul(documents.transpose(1, 0)); // [B, M]
  const candidates = given('candidates', 'int64', ['queries_rows', 'candidates']);
  const student = scores.gatherElements(candidates, 1); // [B, N]
  const arrays = {
    candidates,
    teacher: given('teacher', 'float32', ['queries_rows', 'candidates']),
    mask: given('mask', 'float32', ['queries_rows', 'candidates']),
    positives: given('positives', 'float32', ['queries_rows', 'documents']),
    inBatch: given('inBatch', 'float32', ['queries_rows', 'documents']),
    owner: given('owner', 'float32', ['queries_rows', 'documents']),
    teacherQueries: given('teacherQueries', 'float32', ['queries_rows', teacherWidth ?? 1]),
    teacherDocuments: given('teacherDocuments', 'float32', ['documents', teacherWidth ?? 1]),
  };
  const frozenProjected = Boolean(options.frozenDocuments && projection);
  const inputs = {
    ...arrays,
    student,
    queries: searching,
    documents,
    ...(projection && !frozenProjected ? { projection } : {}),
  } as LossInputs;
  const weights = given('weights', 'float32', ['queries_rows']);
  const terms: Expr[] = [];
  let total: Expr | undefined;
  const extraInputs =
    options.extraTexts && options.losses.some((l) => l.extra)
      ? {
          ...inputs,
          queries:
            frozenProjected && projection
              ? projected(encode('extra').matmul(projection), options.normalize)
              : encode('extra'),
          teacherQueries: given('teacherExtra', 'float32', ['extra_rows', teacherWidth ?? 1]),
        }
      : undefined;
  for (const { loss, weight, extra } of options.losses) {
    let term = reduce(loss.perQuery(inputs), weights);
    if (extra && extraInputs) term = term.add(extra.perQuery(extraInputs).mean([0]));
    terms.push(term);
    total = total ? total.add(term.mul(weight)) : term.mul(weight);
  }
  if (!total)
    throw new InputError({
      code: 'train.no-loss',
      subject: 'no loss is given',
      remedy: 'name at least one under losses',
    });
  graph.outputs.push(total.value, ...terms.map((t) => t.value));
  graph.prune();
  graph.inputs.splice(0, graph.inputs.length, ...graph.inputs.filter((v) => v.readers.size));

  const samples = [0, 1].map((k) => ({
    ...Object.fromEntries(parameters.map((p) => [p.name, p.tensor])),
    ...sampleFeeds(graph, k, groups, options),
  })) as [Record<string, Tensor>, Record<string, Tensor>];
  const named = samples.map((feeds) => Object.fromEntries(graph.inputs.map((v) => [v.name, feeds[v.name]])));
  const shapes = await probe(graph, [named[0], named[1]]);
  const live = parameters.filter((p) => p.value.readers.size);
  const tables = live.filter((p) => p.tensor.dims.length === 2 && p.tensor.dims[0] >= ROW_TABLE_MINIMUM);
  const gradients = differentiate(
    graph,
    total.value,
    live.map((p) => p.value),
    shapes,
    {
      asRows: new Set(tables.map((p) => p.value)),
    },
  );
  const denseOutputs = new Map<string, string>();
  const rowOutputs = new Map<string, { indices: string; rows: string }[]>();
  const emit = (v: Value, name: string): string => {
    const own = new Expr(graph, v).op('Identity').value;
    graph.output(own, name);
    return own.name;
  };
  for (const [p, g] of gradients) {
    if ('dense' in g) denseOutputs.set(p.name, emit(g.dense, `gradient:${p.name}`));
    else
      rowOutputs.set(
        p.name,
        g.rows.map((r, i) => ({
          indices: emit(r.indices, `indices${i}:${p.name}`),
          rows: emit(r.rows, `rows${i}:${p.name}`),
        })),
      );
  }
  graph.prune();
  return {
    graph,
    groups,
    parameters: live.map(({ name, tensor: t }) => ({ name, tensor: t })),
    lossName: total.value.name,
    termNames: terms.map((t) => t.value.name),
    denseOutputs,
    rowOutputs,
  };
}

const projected = (e: Expr, unit: boolean): Expr => (unit ? e.l2Normalize() : e);

/** The width of the last hidden state: the file says it, or the last normalisation's scale does. */
function widthOf(graph: Graph, hidden: Value, parameters: readonly Tensor[]): number | undefined {
  const stated = hidden.dims?.[hidden.dims.length - 1];
  if (typeof stated === 'number') return stated;
  const scale = hidden.producer?.inputs[1]?.constant ?? hidden.producer?.inputs.find((v) => v?.constant)?.constant;
  const [width] = scale?.dims.length === 1 ? scale.dims : (parameters.find((t) => t.dims.length === 1)?.dims ?? []);
  void graph;
  return width;
}

const identity = (from: number, to: number): Tensor<'float32'> => {
  const data = new Float32Array(from * to);
  for (let i = 0; i < Math.min(from, to); i++) data[i * to + i] = 1;
  return { dtype: 'float32', dims: [from, to], data };
};

/** Feeds of two sizes in which no two dimensions that can differ are equal. */
function sampleFeeds(graph: Graph, k: number, groups: number, options: StepGraphOptions): Record<string, Tensor> {
  const size = new Map<string, number>([
    ['queries_rows', [5, 7][k]],
    ['queries_length', [9, 11][k]],
    ['candidates', [3, 4][k]],
    ['extra_rows', [6, 10][k]],
    ['extra_length', [8, 12][k]],
  ]);
  let documents = 0;
  for (let g = 0; g < groups; g++) {
    size.set(`documents${g}_rows`, [13, 17][k] + 6 * g);
    size.set(`documents${g}_length`, [14, 18][k] + 6 * g);
    documents += size.get(`documents${g}_rows`) as number;
  }
  size.set('documents', options.frozenDocuments ? [13, 17][k] : documents);
  return Object.fromEntries(
    graph.inputs.map((v) => {
      const dims = (v.dims ?? []).map((d) => (typeof d === 'number' ? d : (size.get(d) ?? 1)));
      const n = dims.reduce((a, b) => a * b, 1);
      const dtype = v.dtype === 'int64' ? 'int64' : 'float32';
      // Token ids, types and masks of 1 and positions of 0 are valid everywhere.
      const value = v.name.endsWith('input_ids') || v.name.endsWith('attention_mask') || dtype === 'float32' ? 1 : 0;
      return [
        v.name,
        v.dtype === 'float32' && dims.length && n > 100_000
          ? tensor(dtype, dims, new Float32Array(n))
          : tensor(dtype, dims, new Float32Array(n).fill(value)),
      ];
    }),
  );
}
