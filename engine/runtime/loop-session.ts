/**
 * @file A graph with state, run several times in one call: its body is an ONNX Loop, so that what is carried from run to run stays
 * where the provider computes. onnxruntime-node keeps tensors on a device for WebGPU only; between two calls the state is here.
 */
import * as ort from 'onnxruntime-node';
import { Expr } from '../expressions/expr.ts';
import type { Graph, Value } from '../graph/ir.ts';
import { arrayTypes, type DType, sizeOf, type Tensor, type TypedArray } from '../graph/tensor.ts';
import { encodeLoop, LOOP_COUNT, LOOP_RESULT } from '../io/onnx-file.ts';
import { loadFault } from './cuda.ts';
import { execution, type Feeds, fromOrt, type SessionOptions, toOrt } from './session.ts';

/** How a graph with state is run, wherever its state is kept. */
export interface StateSession {
  /** Inputs that a run is given: all but the carried ones. */
  readonly inputs: readonly string[];
  /** Puts a tensor in place of the state of an input. */
  set(input: string, tensor: Tensor<'float32'>): void;
  /** A copy of the state of an input. */
  get(input: string): Promise<Tensor<'float32'>>;
  /**
   * Runs the graph once for each of some feeds, which may still be made while earlier runs are under way.
   * @returns the outputs that are not carried, of the runs that were made: a loop ends where the graph says so
   */
  run(all: AsyncIterable<Feeds>): Promise<Record<string, Tensor>[]>;
  release(): Promise<void>;
}

export interface LoopOptions extends SessionOptions {
  /** Inputs that are the same in every run. */
  constant?: ReadonlySet<string>;
  /** Output, float32 of one element: where it is not finite, the runs end. */
  goesOn?: string;
}

/** An input whose tensors differ from run to run, and in shape: all of them flat, where each begins, and their shapes. */
interface Stream {
  name: string;
  dtype: DType;
  rank: number;
}

export class LoopSession implements StateSession {
  readonly inputs: readonly string[];
  private readonly session: ort.InferenceSession;
  private readonly streams: readonly Stream[];
  private readonly carried: ReadonlyMap<string, string>;
  private readonly others: readonly string[];
  private readonly state = new Map<string, ort.Tensor>();

  private constructor(
    session: ort.InferenceSession,
    streams: readonly Stream[],
    constant: readonly string[],
    carried: ReadonlyMap<string, string>,
    others: readonly string[],
  ) {
    this.session = session;
    this.streams = streams;
    this.carried = carried;
    this.others = others;
    this.inputs = [...constant, ...streams.map((s) => s.name)];
  }

  /**
   * @param graph is changed: it becomes the loop's body
   * @param carried input name to output name, of float32 tensors of equal shape
   * @throws InputError with ONNX Runtime's own words where the graph or the provider is not available
   */
  static async load(
    graph: Graph,
    carried: ReadonlyMap<string, string>,
    options: LoopOptions = {},
  ): Promise<LoopSession> {
    const { constant = new Set(), goesOn } = options;
    const outputs = new Map(graph.outputs.map((v) => [v.name, v]));
    const inputs = new Map(graph.inputs.map((v) => [v.name, v]));
    const stateful = [...carried].map(([input, output]) => ({
      value: inputs.get(input) as Value,
      next: outputs.get(output) as Value,
      start: `${input}.first`,
    }));
    const given = graph.inputs.filter((v) => !carried.has(v.name));
    const streamed = given.filter((v) => !constant.has(v.name));
    const iteration = graph.input('loop.iteration', 'int64', []);
    const condition = graph.input('loop.condition', 'bool', []);
    for (const value of streamed) takeFrom(graph, value, iteration);
    for (const { value, next } of stateful) [next.dtype, next.dims] = [value.dtype, value.dims];
    const kept = stateful.map((s) => s.next);
    const others = graph.outputs.filter((v) => !kept.includes(v));
    graph.setOutputs(condition, ...kept, ...others);
    graph.setOutputs(goOn(graph, condition, goesOn), ...kept, ...others);
    graph.sort();
    const bytes = encodeLoop({ graph, iteration, condition, carried: stateful });
    try {
      const session = await ort.InferenceSession.create(bytes, {
        executionProviders: [execution(options.provider)],
        graphOptimizationLevel: options.optimize ?? 'all',
        logSeverityLevel: 3,
        enableMemPattern: false,
        ...(options.threads ? { intraOpNumThreads: options.threads } : {}),
        ...options.extra,
      });
      return new LoopSession(
        session,
        streamed.map((v) => ({ name: v.name, dtype: v.dtype as DType, rank: v.dims?.length ?? 0 })),
        given.filter((v) => constant.has(v.name)).map((v) => v.name),
        carried,
        others.map((v) => v.name),
      );
    } catch (cause) {
      throw loadFault(options.provider, cause);
    }
  }

  set(input: string, { dims, data }: Tensor<'float32'>): void {
    this.state.set(input, new ort.Tensor('float32', data, dims));
  }

  async get(input: string): Promise<Tensor<'float32'>> {
    const held = this.state.get(input) as ort.Tensor;
    return { dtype: 'float32', dims: held.dims, data: (held.data as Float32Array).slice() };
  }

  async run(given: AsyncIterable<Feeds>): Promise<Record<string, Tensor>[]> {
    const all: Feeds[] = [];
    for await (const feeds of given) all.push(feeds);
    const feeds: Record<string, ort.Tensor> = {
      [LOOP_COUNT]: new ort.Tensor('int64', BigInt64Array.of(BigInt(all.length)), []),
    };
    for (const [input, tensor] of this.state) feeds[`${input}.first`] = tensor;
    const streamed = new Set(this.streams.map((s) => s.name));
    for (const name of this.inputs) if (!streamed.has(name)) feeds[name] = toOrt(all[0][name]);
    for (const stream of this.streams)
      for (const [name, tensor] of Object.entries(flatten(stream, all))) feeds[name] = toOrt(tensor);
    const results = await this.session.run(feeds);
    for (const [input, output] of this.carried) this.state.set(input, results[`${output}${LOOP_RESULT}`]);
    const stacked = this.others.map((name) => [name, fromOrt(results[`${name}${LOOP_RESULT}`])] as const);
    const made = stacked[0]?.[1].dims[0] ?? all.length;
    return Array.from({ length: made }, (_, k) =>
      Object.fromEntries(stacked.map(([name, tensor]) => [name, iterationOf(tensor, k)])),
    );
  }

  async release(): Promise<void> {
    this.state.clear();
    await this.session.release();
  }
}

/** Replaces an input of a body by its part of what all iterations are given: a slice of a flat tensor in its own shape. */
function takeFrom(graph: Graph, value: Value, iteration: Value): void {
  const dtype = value.dtype as DType;
  const rank = value.dims?.length ?? 0;
  const names = streamNames(value.name);
  const at = new Expr(graph, iteration);
  const flat = new Expr(graph, graph.input(names.flat, dtype, [`${value.name}.size`]));
  const bounds = new Expr(graph, graph.input(names.bounds, 'int64', [`${value.name}.bounds`]));
  const shapes = new Expr(graph, graph.input(names.shapes, 'int64', ['loop.runs', rank]));
  const from = bounds.gather(at).unsqueeze(0);
  const to = bounds.gather(at.op('Add', [int(graph, 1)])).unsqueeze(0);
  const part = flat.op('Slice', [from, to]).op('Reshape', [shapes.gather(at)]);
  part.value.dtype = dtype;
  graph.replace(value, part.value);
  graph.removeInput(value);
}

const int = (graph: Graph, n: number): Expr =>
  new Expr(graph, graph.constant({ dtype: 'int64', dims: [], data: BigInt64Array.of(BigInt(n)) }));

const streamNames = (name: string) => ({ flat: `${name}.flat`, bounds: `${name}.bounds`, shapes: `${name}.shapes` });

/** Whether the loop goes on: a number times 0 equals 0 where it is finite. */
function goOn(graph: Graph, condition: Value, name: string | undefined): Value {
  const watched = graph.outputs.find((v) => v.name === name);
  const expr = watched
    ? new Expr(graph, watched)
        .mul(0)
        .equal(0)
        .op('Reshape', [new Expr(graph, graph.constant(EMPTY_SHAPE))])
    : new Expr(graph, condition).op('Identity');
  expr.value.dtype = 'bool';
  expr.value.dims = [];
  return expr.value;
}

const EMPTY_SHAPE = { dtype: 'int64', dims: [0], data: new BigInt64Array(0) } as const;

function flatten({ name, dtype, rank }: Stream, all: readonly Feeds[]): Record<string, Tensor> {
  const total = all.reduce((n, feeds) => n + sizeOf(feeds[name].dims), 0);
  const data = new arrayTypes[dtype](total) as TypedArray;
  const bounds = new BigInt64Array(all.length + 1);
  const shapes = new BigInt64Array(all.length * rank);
  let at = 0;
  for (const [k, feeds] of all.entries()) {
    const given = feeds[name];
    if (given.dims.length !== rank)
      throw new Error(`the input '${name}' has ${given.dims.length} dimensions and not ${rank}`);
    data.set(given.data as never, at);
    at += given.data.length;
    bounds[k + 1] = BigInt(at);
    for (const [i, d] of given.dims.entries()) shapes[k * rank + i] = BigInt(d);
  }
  const names = streamNames(name);
  return {
    [names.flat]: { dtype, dims: [total], data } as Tensor,
    [names.bounds]: { dtype: 'int64', dims: [bounds.length], data: bounds },
    [names.shapes]: { dtype: 'int64', dims: [all.length, rank], data: shapes },
  };
}

/** One iteration of what the loop stacked. */
function iterationOf({ dtype, dims: [, ...dims], data }: Tensor, k: number): Tensor {
  const size = sizeOf(dims);
  return { dtype, dims, data: data.subarray(k * size, (k + 1) * size) } as Tensor;
}
