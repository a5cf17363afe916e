/** @file The encoder of a step: forward from texts to embeddings, and backward from their gradient to every weight's. */
import { InputError } from '../../common/errors.ts';
import { forwardForms } from '../../engine/autodiff/device-forms.ts';
import { differentiate, type Gradient } from '../../engine/autodiff/differentiate.ts';
import { concatenated, Expr } from '../../engine/expressions/expr.ts';
import { type Pooling, pool, poolBeforeMap } from '../../engine/expressions/pooling.ts';
import { Graph, type Node, type Value } from '../../engine/graph/ir.ts';
import { castFloat, type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { addExits } from '../../engine/passes/exits.ts';
import { constantsOf, type EncoderPart } from '../../engine/passes/frozen-parameters.ts';
import { fuse } from '../../engine/passes/fuse.ts';
import { normalize } from '../../engine/passes/normalize.ts';
import { type Half, toHalf } from '../../engine/passes/to-half.ts';
import { trainableConstants } from '../../engine/passes/trainable-parameters.ts';
import { probe } from '../../engine/runtime/infer-shapes.ts';
import type { SessionOptions } from '../../engine/runtime/session.ts';
import type { LayerInput } from '../../losses/inputs.ts';
import { insertDropout } from './dropout.ts';
import { type Product, productsOf } from './products.ts';
import type { DeviceForms } from './training-step.ts';

export interface EncoderGraphOptions {
  /** The student's encoder as loaded from its file. */
  encoder: Graph;
  /** Pooling of token vectors; `none` where the encoder outputs one vector per text. */
  pooling: Pooling | 'none';
  /** Whether embeddings are scaled to unit length. */
  normalize: boolean;
  /** Fraction of hidden values set to zero in training. */
  dropout?: number;
  /** Parts whose weights are not trained; the backward pass ends at the lowest part that is. */
  freeze?: readonly EncoderPart[];
  /** Constants by name that are not trained. */
  fixed?: ReadonlySet<string>;
  /** Further outputs of the encoder that losses read, in order: [B, columns] each. They follow the embedding along the row. */
  observed?: readonly LayerInput[];
  /** Numbers of layers, from 1, after which there is an embedding too, in addition to that of the last layer. */
  exits?: readonly number[];
  /** Whether the optimizer reads the inputs of the products (`readsProducts`). */
  products?: boolean;
  /** Type of the activations and of their gradients, up to the pooled vectors; float32 by default. */
  precision?: Precision;
  /** What is fast where the graph will run; in half precision always the forms for CUDA. Plain operators by default. */
  forms?: DeviceForms;
  /** Where the graph will run, for operators that a provider alone has. */
  session?: SessionOptions;
}

/** Types that activations can have in training. */
export type Precision = 'float32' | Half;

/** A trained weight, an input of the graph. */
export interface Weight {
  name: string;
  tensor: Tensor<'float32'>;
  value: Value;
}

/** An encoder with its backward pass. Graphs contain one copy per group of texts. */
export interface EncoderGraph {
  graph: Graph;
  /** [R, L] token ids, mask and types, as far as the encoder reads them. */
  tokens: ReadonlyMap<string, Value>;
  weights: readonly Weight[];
  /**
   * [R, E D + O]: with exits, their embeddings one after the other along the row, that of the last layer last; else E is 1. Then what is
   * observed of the layers.
   */
  embedding: Value;
  /** E D + O */
  width: number;
  /** What is observed of the layers, in order, with its columns, O in all. */
  observed: readonly { name: LayerInput; columns: number }[];
  /** [R, E D + O] the gradient of the loss with respect to the embedding, an input. */
  upstream: Value;
  /** [sites, 2] mask positions of the dropout sites; absent without dropout. */
  dropout?: { sites: number; places: Value; table: Value };
  /** Nodes of the forward pass, and those of the backward pass. */
  forward: readonly Node[];
  backward: readonly Node[];
  gradients: ReadonlyMap<string, Gradient>;
  products?: ReadonlyMap<string, Product>;
}

/** The outputs that losses read in addition to vectors. @throws InputError where the student does not have them, or has exits too */
function observedOutputs(source: Graph, { observed = [], exits }: EncoderGraphOptions): Value[] {
  if (observed.length && exits?.length)
    throw new InputError({
      code: 'train.exits',
      subject: `a loss reads '${observed[0]}' of a student with exits`,
      remedy: 'leave out train.exits or that loss',
    });
  return observed.map((name) => {
    const found = source.outputs.find((v) => v.name === name);
    if (!found)
      throw new InputError({
        code: 'train.no-statistic',
        subject: `a loss reads '${name}', which the layers of the student do not give`,
        remedy:
          name === 'activations'
            ? 'activation-l1 is for student.architecture relu or top-k'
            : 'load-balance is for student.architecture experts with routing token',
      });
    return found;
  });
}

const TOKEN_INPUTS = ['input_ids', 'attention_mask', 'token_type_ids'];

/** @throws InputError where the graph of a student needs an input that is not of tokens */
export function refuseOtherInputs({ inputs }: Pick<Graph, 'inputs'>): void {
  const other = inputs.find((v) => !TOKEN_INPUTS.includes(v.name));
  if (other)
    throw new InputError({
      code: 'student.input',
      subject: `the student needs an input '${other.name}'`,
      expected: 'input_ids, attention_mask and perhaps token_type_ids',
      remedy: 'export the encoder without it',
    });
}

/** Tables with fewer rows than this get a dense gradient: row gradients would save nothing. */
const ROW_TABLE_MINIMUM = 256;

/**
 * @throws InputError if an operator has no gradient rule or the encoder has unknown inputs
 */
export async function encoderGraph(options: EncoderGraphOptions): Promise<EncoderGraph> {
  const source = options.encoder.clone();
  const further = observedOutputs(source, options);
  source.setOutputs(source.outputs.find((v) => v.name === 'last_hidden_state') ?? source.outputs[0]);
  const half = options.precision === 'float32' ? undefined : options.precision;
  const frozen = options.freeze?.length ? constantsOf(source, options.freeze) : new Set<Value>();
  const trainable = new Set(trainableConstants(source).filter((v) => !frozen.has(v) && !options.fixed?.has(v.name)));
  if (further.length) source.setOutputs(source.outputs[0], ...further);
  source.prune();
  if (options.exits?.length) addExits(source, options.exits);
  normalize(source, 'the student');
  fuse(source);
  source.prune();

  const graph = new Graph(source.opset);
  const all: Weight[] = [];
  const bound = new Map<Value, Value>();
  for (const v of source.constants) {
    if (!trainable.has(v) || !v.constant) continue;
    const weights = castFloat(v.constant, 'float32');
    const value = graph.input(v.name, 'float32', weights.dims);
    all.push({ name: v.name, tensor: weights, value });
    bound.set(v, value);
  }
  refuseOtherInputs(source);
  const tokens = new Map<string, Value>();
  for (const v of source.inputs) {
    if (!v.readers.size) continue;
    const value = graph.input(v.name, 'int64', ['rows', 'length']);
    tokens.set(v.name, value);
    bound.set(v, value);
  }
  const mask = tokens.get('attention_mask') ?? graph.input('attention_mask', 'int64', ['rows', 'length']);
  tokens.set('attention_mask', mask);
  const map = graph.embed(source, (v) => bound.get(v));
  const dropout = options.dropout ? insertDropout(graph) : undefined;
  const inside = new Set(graph.nodes);
  const [first, ...others] = source.outputs.slice(0, source.outputs.length - further.length).map((hidden) => {
    let one = new Expr(graph, map.get(hidden) as Value);
    // An optimizer that reads the products' inputs, and half precision, know the rows of tokens.
    const pooled = options.products || half ? pool : poolBeforeMap;
    if (options.pooling !== 'none') one = pooled(one, new Expr(graph, mask), options.pooling);
    return options.normalize ? one.l2Normalize() : one;
  });
  const behind = source.outputs.slice(source.outputs.length - further.length);
  others.push(...behind.map((v) => new Expr(graph, map.get(v) as Value)));
  const out = concatenated([first, ...others], 1);
  graph.output(out.value);
  const wide = new Set(graph.nodes.filter((n) => !inside.has(n)));
  graph.prune();
  if (!mask.readers.size) {
    tokens.delete('attention_mask');
    graph.removeInput(mask);
  }
  const weights = all.filter((w) => w.value.readers.size);
  if (!weights.length)
    throw new InputError({
      code: 'train.no-weights',
      subject: options.freeze?.length
        ? `train.freeze [${options.freeze}] leaves no weight to train`
        : 'the student has no weight to train',
      remedy: options.freeze?.length ? 'freeze fewer parts' : 'export the encoder with float weights',
    });
  graph.dropUnusedInputs();

  // The gradient of sum(embedding x upstream) equals that of any loss whose gradient at the embedding is `upstream`.
  const samples = [0, 1].map((k) => sampleFeeds(graph, weights, k));
  const sizes = new Map(await probe(graph, [samples[0], samples[1]]));
  const width = sizes.get(out.value)?.dims[1];
  if (typeof width !== 'number')
    throw new InputError({
      code: 'student.width',
      subject: "the student's embeddings have no fixed width",
      remedy: 'export the encoder with a fixed hidden size',
    });
  const observed = behind.map((v, i) => ({
    name: (options.observed as readonly LayerInput[])[i],
    columns: Number(sizes.get(map.get(v) as Value)?.dims[1]),
  }));
  if (options.products && half)
    throw new InputError({
      code: 'train.precision',
      subject: `an optimizer that reads the products' inputs does not train in ${half}`,
      remedy: 'set train.precision to float32, or choose another train.optimizer',
    });
  const products = options.products ? productsOf(graph, weights, tokens.get('attention_mask'), sizes) : undefined;
  const forms = half ? 'cuda-half' : (options.forms ?? 'plain');
  forwardForms(graph, sizes, forms, {
    products: options.products,
    biasSoftmax: options.session?.provider === 'cuda' && half !== 'bfloat16',
  });
  const ahead = new Set(graph.nodes);
  const upstream = graph.input('upstream', 'float32', ['rows', width]);
  const product = out.mul(new Expr(graph, upstream));
  const surrogate = product.sum([0, 1]).value;
  const shapes = new Map(sizes);
  const shape = { dtype: 'float32', dims: sizes.get(out.value)?.dims ?? [] } as const;
  shapes.set(upstream, shape).set(product.value, shape).set(surrogate, { dtype: 'float32', dims: [] });
  for (const v of graph.constants)
    if (v.constant && !shapes.has(v)) shapes.set(v, { dtype: v.constant.dtype, dims: v.constant.dims });
  const tables = weights.filter((p) => p.tensor.dims.length === 2 && p.tensor.dims[0] >= ROW_TABLE_MINIMUM);
  const gradients = differentiate(
    graph,
    surrogate,
    weights.map((w) => w.value),
    shapes,
    { asRows: new Set(tables.map((w) => w.value)), forms },
  );
  for (const g of gradients.values())
    for (const v of 'dense' in g ? [g.dense] : g.rows.flatMap((r) => [r.indices, r.rows])) graph.output(v);
  graph.prune();
  const before = new Set(graph.nodes);
  const held = [...frozen].map((v) => map.get(v)).filter((v) => v !== undefined);
  const taken = half
    ? toHalf(graph, half, {
        sources: new Set([...weights.map((w) => w.value), ...held, ...(dropout ? [dropout.table] : [])]),
        active: [...weights.map((w) => w.value), upstream],
        wide,
      })
    : new Map<Value, Value>();
  const now = (v: Value): Value => taken.get(v) ?? v;
  const kept = new Set<Node>();
  for (const node of graph.nodes)
    if (ahead.has(node) || (!before.has(node) && isForward(node, kept, upstream))) kept.add(node);
  return {
    graph,
    tokens,
    weights,
    embedding: now(out.value),
    width,
    observed,
    upstream,
    dropout,
    forward: graph.nodes.filter((n) => kept.has(n)),
    backward: graph.nodes.filter((n) => !kept.has(n)),
    gradients: new Map(
      [...gradients].map(([v, g]) => [
        v.name,
        'dense' in g
          ? { dense: now(g.dense) }
          : { rows: g.rows.map(({ indices, rows }) => ({ indices, rows: now(rows) })) },
      ]),
    ),
    products,
  };
}

/** Whether a Cast belongs to the forward pass: it reads an input or what that pass makes. */
const isForward = (node: Node, forward: ReadonlySet<Node>, upstream: Value): boolean =>
  node.inputs.every((v) => v !== upstream && (!v?.producer || forward.has(v.producer)));

/** Feeds of two sizes in which no two dimensions that can differ are equal; ids, types and masks of 1 are valid anywhere. */
function sampleFeeds(graph: Graph, weights: readonly Weight[], k: number): Record<string, Tensor> {
  const given = new Map<string, Tensor>(weights.map((w) => [w.name, w.tensor]));
  const dims = [
    [5, 9],
    [7, 11],
  ][k];
  const sample = (v: Value): Tensor => {
    const known = given.get(v.name);
    if (known) return known;
    if (v.dtype !== 'int64' || v.dims?.[0] !== 'rows')
      return tensor(v.dtype ?? 'float32', v.dims as number[], new Float32Array(sizeOfDims(v)));
    return tensor('int64', dims, new Float32Array(dims[0] * dims[1]).fill(v.name === 'token_type_ids' ? 0 : 1));
  };
  return Object.fromEntries(graph.inputs.map((v) => [v.name, sample(v)]));
}

const sizeOfDims = (v: Value): number => (v.dims as number[]).reduce((a, b) => a * b, 1);
