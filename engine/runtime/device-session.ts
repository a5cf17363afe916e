/** @file A graph with state: outputs that are inputs of the next run stay on the device. */
import * as ort from 'onnxruntime-node';
import { constant, Expr } from '../expressions/expr.ts';
import { Graph } from '../graph/ir.ts';
import type { Tensor } from '../graph/tensor.ts';
import { encodeGraph } from '../io/onnx-file.ts';
import { inWebgpuOperators } from '../passes/webgpu-operators.ts';
import { hasCuda, loadFault } from './cuda.ts';
import type { StateSession } from './loop-session.ts';
import { mayHaveGpu } from './may-have-gpu.ts';
import { execution, type Feeds, onProcessor, Session, type SessionOptions, toOrt } from './session.ts';

/** Runs a graph repeatedly; carried outputs of a run are the matching inputs of the next. */
export class ResidentSession implements StateSession {
  readonly inputs: readonly string[];
  private readonly session: ort.InferenceSession;
  private readonly options: SessionOptions;
  /** Input name to the output that feeds it in the next run. */
  private readonly carried: ReadonlyMap<string, string>;
  private readonly state = new Map<string, ort.Tensor>();
  /** By the number of dimensions. */
  private readonly downloads = new Map<number, Promise<ort.InferenceSession>>();

  private constructor(session: ort.InferenceSession, options: SessionOptions, carried: ReadonlyMap<string, string>) {
    this.session = session;
    this.options = options;
    this.carried = carried;
    this.inputs = session.inputNames.filter((n) => !carried.has(n));
  }

  /**
   * @param graph is changed for WebGPU
   * @param carried input name to output name, of float32 tensors of equal shape
   * @throws InputError with ONNX Runtime's message if the graph cannot be loaded or the provider is not available
   */
  static async load(
    graph: Graph,
    carried: ReadonlyMap<string, string>,
    options: SessionOptions = {},
  ): Promise<ResidentSession> {
    if (options.provider === 'webgpu') inWebgpuOperators(graph);
    try {
      const session = await ort.InferenceSession.create(encodeGraph(graph), {
        executionProviders: [execution(options.provider)],
        graphOptimizationLevel: options.optimize ?? 'all',
        logSeverityLevel: 3,
        // All of them: a run that copies an output to the host waits for the device.
        ...(!onProcessor(options) && { preferredOutputLocation: 'gpu-buffer' }),
        ...options.extra,
      });
      return new ResidentSession(session, options, carried);
    } catch (cause) {
      throw loadFault(options.provider, cause);
    }
  }

  /** Sets the state of an input. */
  set(input: string, { dims, data }: Tensor<'float32'>): void {
    this.state.get(input)?.dispose();
    this.state.set(input, new ort.Tensor('float32', data, dims));
  }

  /** The state of an input, copied from the device. */
  async get(input: string): Promise<Tensor<'float32'>> {
    return this.toHost(this.state.get(input) as ort.Tensor);
  }

  /** Feeds are taken while the device computes: its results are copied to the host after the last run. */
  async run(all: AsyncIterable<Feeds>): Promise<Record<string, Tensor>[]> {
    const made: Record<string, ort.Tensor>[] = [];
    try {
      for await (const feeds of all) made.push(await this.once(feeds));
      const results: Record<string, Tensor>[] = [];
      for (const outputs of made) {
        const result: Record<string, Tensor> = {};
        for (const [name, tensor] of Object.entries(outputs)) result[name] = await this.toHost(tensor);
        results.push(result);
      }
      return results;
    } finally {
      for (const outputs of made) for (const tensor of Object.values(outputs)) tensor.dispose();
    }
  }

  private async toHost(tensor: ort.Tensor): Promise<Tensor<'float32'>> {
    const { dims } = tensor;
    if (tensor.location === 'cpu') return { dtype: 'float32', dims, data: (tensor.data as Float32Array).slice() };
    const download = this.downloads.get(dims.length) ?? downloader(this.options, dims.length);
    this.downloads.set(dims.length, download);
    const { out } = await (await download).run({ in: tensor });
    return { dtype: 'float32', dims, data: out.data as Float32Array };
  }

  /** @returns the outputs that are not carried, where the run left them */
  private async once(feeds: Feeds): Promise<Record<string, ort.Tensor>> {
    const inputs: Record<string, ort.Tensor> = Object.fromEntries(this.state);
    for (const name of this.inputs) {
      inputs[name] = toOrt(feeds[name]);
    }
    const results = await this.session.run(inputs);
    const resident = new Set(this.carried.values());
    for (const [input, output] of this.carried) {
      this.state.get(input)?.dispose();
      this.state.set(input, results[output]);
    }
    return Object.fromEntries(Object.entries(results).filter(([name]) => !resident.has(name)));
  }

  async release(): Promise<void> {
    for (const t of this.state.values()) t.dispose();
    this.state.clear();
    for (const download of this.downloads.values()) await (await download).release();
    await this.session.release();
  }
}

/** The binding cannot read device tensors: a graph that multiplies by 1 copies them to the host. */
async function downloader(options: SessionOptions, rank: number): Promise<ort.InferenceSession> {
  const graph = new Graph(14);
  const x = new Expr(
    graph,
    graph.input(
      'in',
      'float32',
      Array.from({ length: rank }, (_, i) => `d${i}`),
    ),
  );
  graph.output(x.mul(constant(graph, 'float32', [1], [1])).value, 'out');
  return ort.InferenceSession.create(encodeGraph(graph), {
    executionProviders: [execution(options.provider)],
    graphOptimizationLevel: 'disabled',
    logSeverityLevel: 3,
    preferredOutputLocation: 'cpu',
  });
}

/** Milliseconds that a provider takes for matrix products; undefined where it is not available. */
async function speed(provider: 'cpu' | 'webgpu' | 'cuda'): Promise<number | undefined> {
  const [rows, width] = [1024, 512];
  const graph = new Graph(14);
  let x = new Expr(graph, graph.input('x', 'float32', [rows, width]));
  const w = new Expr(graph, graph.input('w', 'float32', [width, width]));
  for (let i = 0; i < 16; i++) x = x.matmul(w);
  graph.output(x.sum([0]).value, 'y');
  try {
    const session = await Session.load(graph, { provider });
    const filled = (n: number, m: number): Tensor => ({
      dtype: 'float32',
      dims: [n, m],
      data: new Float32Array(n * m).fill(1e-3),
    });
    const feeds = { x: filled(rows, width), w: filled(width, width) };
    await session.run(feeds);
    const started = performance.now();
    await session.run(feeds);
    const took = performance.now() - started;
    await session.release();
    return took;
  } catch {
    return undefined;
  }
}

let fastest: Promise<'cpu' | 'webgpu' | 'cuda'> | undefined;

/** The fastest available provider for matrix products; measured once. */
export function fastestProvider(): Promise<'cpu' | 'webgpu' | 'cuda'> {
  fastest ??= (async () => {
    let best: 'cpu' | 'webgpu' | 'cuda' = 'cpu';
    let least = Number.POSITIVE_INFINITY;
    const webgpu = mayHaveGpu() ? (['webgpu'] as const) : [];
    if (!hasCuda() && !webgpu.length) return best;
    for (const provider of [...(hasCuda() ? (['cuda'] as const) : []), ...webgpu, 'cpu'] as const) {
      const took = await speed(provider);
      if (took !== undefined && took < least) [best, least] = [provider, took];
    }
    return best;
  })();
  return fastest;
}
