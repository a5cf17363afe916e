/** @file What a cross-encoder's last linear layer reads of each pair, and that layer. */
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import type { Graph, Value } from '../engine/graph/ir.ts';
import { floatsOf } from '../engine/graph/tensor.ts';
import { loadGraph } from '../engine/io/onnx-file.ts';
import { forwardBytes } from '../engine/runtime/forward-memory.ts';
import { batchTokens, Session, type SessionOptions } from '../engine/runtime/session.ts';
import { pairTokens, type ReadingOptions, readFolder } from './reading/describe.ts';
import { type Runner, runTokens } from './reading/run.ts';
import type { Pair } from './teacher.ts';

export interface ScoreFeatures {
  dimensions: number;
  /** logit = weight . h + bias */
  head: { weight: Float64Array; bias: number };
  /** [n, dimensions] row-major. */
  read(pairs: readonly Pick<Pair, 'query' | 'document'>[], watch?: RunControl): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/**
 * Opens a cross-encoder's folder, its graph cut before the last layer.
 * @throws InputError where its last step is not a linear layer of one logit
 */
export async function scoreFeatures(
  folder: string,
  options: ReadingOptions & { session?: SessionOptions } = {},
): Promise<ScoreFeatures> {
  const reading = await readFolder(folder, options);
  const { files, plan, limits } = reading;
  const tokensOf = pairTokens(reading);
  const graph = await loadGraph(files.model);
  const { features, weight, bias } = lastLayer(graph, files.model);
  graph.setOutputs(features);
  graph.prune();
  const runner: Runner = {
    file: files.model,
    session: await Session.load(graph, options.session, files.model),
    plan,
    output: features.name,
    batchTokens: batchTokens(options.session),
    maxLength: limits.maxLength,
    bytesAToken: forwardBytes(graph),
  };
  const dimensions = weight.length;
  return {
    dimensions,
    head: { weight, bias },
    async read(pairs, watch = {}) {
      const out = new Float32Array(pairs.length * dimensions);
      for (let from = 0; from < pairs.length; from += CHUNK) {
        const tokens = pairs.slice(from, from + CHUNK).map(tokensOf);
        await runTokens(runner, tokens, watch, (found, at) => {
          const data = floatsOf(found);
          for (const [r, i] of at.entries())
            out.set(data.subarray(r * dimensions, (r + 1) * dimensions), (from + i) * dimensions);
        });
        const done = Math.min(pairs.length, from + CHUNK);
        watch.onProgress?.({ stage: 'read features', done, total: pairs.length, unit: 'pairs' });
      }
      return out;
    },
    dispose: () => runner.session.release(),
  };
}

/** Pairs read at a time. */
const CHUNK = 4096;

/** The layer that makes the logit: a Gemm, or a product with a sum behind it. */
function lastLayer(graph: Graph, file: string): { features: Value; weight: Float64Array; bias: number } {
  const logits = graph.outputs.find((v) => v.name === 'logits') ?? graph.outputs[0];
  const last = logits?.producer;
  const refuse = (): never => {
    throw new InputError({
      code: 'teacher.no-linear-head',
      subject: `${file} does not end with a linear layer of one logit (its last step is ${last?.op ?? 'missing'})`,
      remedy: "use another cross-encoder under 'train.daft.model', or remove 'train.daft'",
    });
  };
  // A transposed vector has the same numbers in the same order.
  const constantOf = (v: Value | null | undefined): Value['constant'] | undefined =>
    v?.constant ??
    (['Transpose', 'Identity'].includes(v?.producer?.op ?? '') ? v?.producer?.inputs[0]?.constant : undefined);
  const numbers = (v: Value | null | undefined): Float64Array | undefined => {
    const found = constantOf(v);
    return found ? Float64Array.from(floatsOf(found)) : undefined;
  };
  const sum = last?.op === 'Add' ? last : undefined;
  const product = sum ? (sum.inputs.find((v) => v?.producer?.op === 'MatMul')?.producer ?? undefined) : last;
  if (!product || !['Gemm', 'MatMul'].includes(product.op)) return refuse();
  const [features, matrix, own] = product.inputs;
  const weight = numbers(matrix);
  const bias = numbers(sum ? sum.inputs.find((v) => constantOf(v)) : own);
  // Attributes that scale are 1 where exporters write them.
  const scaled = ['alpha', 'beta'].some((name) => (product.attributes.get(name)?.value ?? 1) !== 1);
  const { dims } = constantOf(matrix) ?? {};
  if (!features || !weight || !dims?.includes(1) || dims.length !== 2 || scaled || (bias && bias.length !== 1))
    return refuse();
  return { features, weight, bias: bias?.[0] ?? 0 };
}
