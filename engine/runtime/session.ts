/** @file The only module that calls ONNX Runtime: graphs in, typed arrays in and out, without copies. */
import { readFile } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import * as ort from 'onnxruntime-node';
import { FaultError, InputError } from '../../common/errors.ts';
import type { Graph } from '../graph/ir.ts';
import type { DType, Tensor, TypedArray } from '../graph/tensor.ts';
import type { ModelSource } from '../io/model-file.ts';
import { encodeGraph } from '../io/onnx-file.ts';
import { hasCuda, loadFault } from './cuda.ts';

/** A tensor for each input, by name. */
export type Feeds = Readonly<Record<string, Tensor>>;

/** Where and how a graph runs. */
export interface SessionOptions {
  provider?: 'cpu' | 'webgpu' | 'cuda';
  /** Threads within an operator; ONNX Runtime's choice by default. */
  threads?: number;
  optimize?: 'disabled' | 'basic' | 'extended' | 'all';
  /** Passed on unchanged. */
  extra?: ort.InferenceSession.SessionOptions;
}

export const onProcessor = ({ provider }: SessionOptions = {}): boolean => (provider ?? 'cpu') === 'cpu';

/**
 * Padded tokens per batch in forward passes. On a CPU the values of a batch should stay in the caches: measured on two cores,
 * 1,024 tokens take 0.82 of the time that 4,096 take. A device needs larger batches.
 */
export function batchTokens(options: SessionOptions = {}): number {
  return onProcessor(options) ? 512 * (options.threads ?? availableParallelism()) : 8192;
}

/** ONNX Runtime counts all cores of the machine; where this process may use fewer, the number of threads is set. */
const allowed = (): number | undefined => {
  const own = availableParallelism();
  return own < cpus().length ? own : undefined;
};

/**
 * WebGPU's validation of each dispatch costs more than most dispatches, and the graphs here are our own. Buffers are cached by
 * exact size: by default those larger than the largest bucket are allocated again in each run (measured on an H100: a step of 64
 * texts of 64 tokens took 68 ms so, and 99 by default).
 */
export function execution(provider: SessionOptions['provider']): ort.InferenceSession.ExecutionProviderConfig {
  return provider === 'webgpu'
    ? { name: 'webgpu', ...{ validationMode: 'disabled', storageBufferCacheMode: 'simple' } }
    : (provider ?? 'cpu');
}

/** A loaded graph. */
export class Session {
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Whether it runs on a device other than the CPU. */
  readonly onDevice: boolean;
  private readonly session: ort.InferenceSession;

  private constructor(session: ort.InferenceSession, onDevice: boolean) {
    this.session = session;
    this.onDevice = onDevice;
    this.inputs = session.inputNames;
    this.outputs = session.outputNames;
  }

  /** @throws InputError with ONNX Runtime's message if it cannot load the model */
  static load(model: Graph | Uint8Array, options: SessionOptions = {}, name = 'the model'): Promise<Session> {
    return Session.create(model instanceof Uint8Array ? model : encodeGraph(model), {}, options, name);
  }

  /**
   * Loads a file for inference only: ONNX Runtime reads it by its path, with any operators and of any size.
   * @throws InputError with ONNX Runtime's message if it cannot load it
   */
  static async open(source: ModelSource, options: SessionOptions = {}, name = 'the model'): Promise<Session> {
    if ('path' in source) return Session.create(source.path, {}, options, name);
    const { bytes, folder, data = [] } = source;
    const extra = folder && { extra: { session: { model_external_initializers_file_folder_path: folder } } };
    const externalData = await Promise.all(data.map(async (d) => ({ path: d.path, data: await readFile(d.file) })));
    return Session.create(bytes, { ...extra, ...(data.length && { externalData }) }, options, name);
  }

  private static async create(
    model: string | Uint8Array,
    weights: ort.InferenceSession.SessionOptions,
    options: SessionOptions,
    name: string,
  ): Promise<Session> {
    const threads = options.threads ?? allowed();
    // ONNX Runtime would write its own errors to the terminal first.
    if (options.provider === 'cuda' && !hasCuda()) throw loadFault('cuda', undefined, name);
    try {
      return new Session(
        // The two forms of the call have different types.
        await ort.InferenceSession.create(model as string, {
          executionProviders: [execution(options.provider)],
          graphOptimizationLevel: options.optimize ?? 'all',
          logSeverityLevel: 3,
          // Memory patterns are cached per shape; texts differ in length, and each pattern would hold its peak memory again.
          enableMemPattern: false,
          ...(threads ? { intraOpNumThreads: threads } : {}),
          ...weights,
          ...options.extra,
        }),
        !onProcessor(options),
      );
    } catch (cause) {
      if (!onProcessor(options)) throw loadFault(options.provider, cause, name);
      throw new InputError({
        code: 'runtime.load',
        subject: `ONNX Runtime cannot load ${name} (${(cause as Error).message})`,
        remedy: 'export the model again or convert it to operators that ONNX Runtime has',
        cause,
      });
    }
  }

  /**
   * Runs the graph.
   * @param feeds a tensor for each input
   * @param into arrays that outputs are written to in place, by output name
   * @param only names of the outputs to compute; all by default
   * @throws FaultError if a device returns only zeros, as it does when out of memory
   */
  async run(feeds: Feeds, into: Feeds = {}, only: readonly string[] = this.outputs): Promise<Record<string, Tensor>> {
    const inputs = Object.fromEntries(Object.entries(feeds).map(([name, t]) => [name, toOrt(t)]));
    const fetches = Object.fromEntries(
      only.map((name) => [name, Object.hasOwn(into, name) ? toOrt(into[name]) : null]),
    );
    const results = await this.session.run(inputs, fetches);
    if (this.onDevice) for (const name of only) refuseZeros(name, results[name]);
    return Object.fromEntries(
      only.map((name) => [name, Object.hasOwn(into, name) ? into[name] : fromOrt(results[name] as ort.Tensor)]),
    );
  }

  /** Frees the session; it cannot run after that. */
  async release(): Promise<void> {
    await this.session.release();
  }
}

/** When its memory is full, WebGPU writes to the terminal, reports no error and returns unwritten buffers. */
function refuseZeros(name: string, { type, data }: ort.Tensor): void {
  if (type === 'float32' && data.length && (data as Float32Array).every((v) => v === 0))
    throw new FaultError({
      code: 'runtime.device-zeros',
      subject: `the device returned only zeros for '${name}'; it is probably out of memory`,
      remedy: "end other programs that use it, or use the CPU ('train.provider: cpu')",
    });
}

/**
 * A tensor as the binding takes it. Half floats go in as bits under their own name: the library would turn them into a Float16Array
 * where Node has it (24 and later), which the binding takes for an array of no bytes.
 */
export function toOrt({ dtype, dims, data }: Tensor): ort.Tensor {
  if (dtype !== 'float16') return new ort.Tensor(dtype as ort.Tensor.Type, data as never, dims);
  const bits = new ort.Tensor('uint16', data as Uint16Array, dims);
  return Object.defineProperty(bits, 'type', { value: dtype, enumerable: true });
}

/** Converts a tensor from the binding's form; half floats are bits on every Node version. */
export function fromOrt(t: ort.Tensor): Tensor {
  const { type, dims } = t;
  let data = t.data as TypedArray;
  // `floatsOf` reads the bits. Every output of ONNX Runtime passes through here.
  if (type === 'float16' && !(data instanceof Uint16Array)) {
    const { buffer, byteOffset, length } = data as TypedArray;
    data = new Uint16Array(buffer as ArrayBuffer, byteOffset, length);
  }
  return { dtype: type as DType, dims, data } as Tensor;
}
