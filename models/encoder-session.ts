/** @file Runs an encoder: one graph that includes the head, or an unchanged file followed by a separate graph of the head. */
import { FaultError, InputError } from '../common/errors.ts';
import { Expr } from '../engine/expressions/expr.ts';
import { Graph } from '../engine/graph/ir.ts';
import { type DType, floatsOf, type Tensor } from '../engine/graph/tensor.ts';
import { type ModelFile, type Port, readModelFile } from '../engine/io/model-file.ts';
import { bytesOfWidths } from '../engine/runtime/forward-memory.ts';
import { type Feeds, Session, type SessionOptions } from '../engine/runtime/session.ts';
import { checkRows, encoderOutput, finished, isPooled, POOLED } from './encoder-graph.ts';
import { hiddenSize } from './model-folder.ts';
import { applyHead, applyModules, endsInUnit, type Head } from './modules/head.ts';
import { checkWidths } from './modules/read-modules.ts';

/** Computes vectors of padded token ids. */
export interface EncoderSession {
  /** Names of its inputs. */
  readonly inputs: readonly string[];
  readonly onDevice: boolean;
  /** @returns [rows, dimensions] */
  run(feeds: Feeds): Promise<Tensor>;
  release(): Promise<void>;
}

/** A graph whose one output is the vector of each row. */
export const ofGraph = (session: Session): EncoderSession => ({
  inputs: session.inputs,
  onDevice: session.onDevice,
  run: async (feeds) => (await session.run(feeds))[session.outputs[0]],
  release: () => session.release(),
});

/** Errors of files that ONNX Runtime could not read either. */
const unreadable = new Set(['onnx.unreadable', 'onnx.malformed', 'onnx.empty']);

/** Whether an error says that a file is ONNX but not what this engine reads as a graph. */
export const isUnread = (error: unknown): error is InputError =>
  error instanceof InputError &&
  (/^(onnx|graph|shape)\./.test(error.code) || error.code === 'runtime.load') &&
  !unreadable.has(error.code);

/** An opset that has every operator of the head. */
const HEAD_OPSET = 18;

export interface Standing {
  session: EncoderSession;
  model: ModelFile;
  /** Whether the file gives one vector a text. */
  pools: boolean;
  bytesAToken(length: number): number;
}

/**
 * Opens an unchanged file for inference: ONNX Runtime reads it by its path, with any operators and of any size.
 * @param preferTokens as `encoderOutput`
 * @throws InputError if it is not an encoder, its inputs are not understood, or ONNX Runtime cannot load it
 */
export async function openStanding(
  file: string,
  {
    head,
    preferTokens,
    session,
    config,
    rows,
  }: {
    head: Head;
    preferTokens: boolean;
    session?: SessionOptions;
    config: Readonly<Record<string, unknown>>;
    /** Number of the tokenizer's ids, and the folder's name. */
    rows: { ids: number; folder: string };
  },
): Promise<Standing> {
  const model = await readModelFile(file);
  const hidden = encoderOutput(model, file, preferTokens);
  if (model.table) checkRows(model.table.rows, rows.ids, rows.folder);
  const float = hidden.dtype === 'bfloat16';
  // An output that the binding cannot hold is left out, or cast.
  const source = await model.source(
    model.outputs.some((v) => v.dtype === 'bfloat16') ? { output: hidden.name, float } : undefined,
  );
  const encoder = await Session.open(source, session, file);
  const pooled = await headSession(hidden, head, file, session);
  const width = model.table?.hidden ?? hiddenSize(config) ?? 768;
  return {
    model,
    pools: isPooled(hidden),
    bytesAToken: bytesOfWidths({ hidden: width, widest: Math.max(model.table?.widest ?? 0, 4 * width) }),
    session: {
      inputs: head.includePrompt ? encoder.inputs : [...encoder.inputs, POOLED],
      onDevice: encoder.onDevice,
      async run({ [POOLED]: shown, ...feeds }) {
        const found = (await ran(encoder, feeds, hidden.name, file))[hidden.name];
        const vectors: Tensor = { dtype: 'float32', dims: found.dims, data: floatsOf(found) };
        if (!pooled) return vectors;
        const mask = shown ?? feeds.attention_mask ?? ones(feeds.input_ids.dims);
        const all: Feeds = { hidden: vectors, mask: asInt64(mask) };
        const fed = Object.fromEntries(pooled.inputs.map((name) => [name, all[name]]));
        return (await pooled.run(fed))[pooled.outputs[0]];
      },
      async release() {
        await encoder.release();
        await pooled?.release();
      },
    },
  };
}

/** The head as a graph of its own; undefined where the file's output is the vector already. */
async function headSession(hidden: Port, head: Head, file: string, options?: SessionOptions) {
  const ready = isPooled(hidden);
  const whole = hidden.name === 'sentence_embedding';
  if (whole && !endsInUnit(head) && head.dimensions === undefined) return undefined;
  const graph = new Graph(HEAD_OPSET);
  const width = hidden.dims?.at(-1);
  if (!ready && typeof width === 'number') checkWidths(head, width, file);
  const dims = ready ? ['batch', width ?? 'width'] : ['batch', 'sequence', width ?? 'width'];
  const vectors = new Expr(graph, graph.input('hidden', 'float32', dims));
  let out = vectors;
  if (whole) out = finished(out, head);
  else if (ready) out = applyModules(out, head.modules);
  else out = applyHead(out, new Expr(graph, graph.input('mask', 'int64', ['batch', 'sequence'])), head);
  if (out.value === vectors.value) return undefined;
  graph.setOutputs(out.value);
  graph.prune();
  return Session.load(graph, options, `the head of ${file}`);
}

async function ran(session: Session, feeds: Feeds, output: string, file: string) {
  try {
    return await session.run(feeds, {}, [output]);
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    const words = (cause as Error).message.replace(/\s+/g, ' ').trim();
    throw new FaultError({
      code: 'encoder.run',
      subject: `ONNX Runtime cannot run ${file} on ${feeds.input_ids.dims[0]} texts of ${feeds.input_ids.dims[1]} tokens (${words})`,
      remedy: 'compare its config.json and tokenizer.json with the model that was exported, or export it again',
      cause,
    });
  }
}

const ones = (dims: readonly number[]): Tensor => ({
  dtype: 'int64',
  dims,
  data: new BigInt64Array(dims.reduce((n, d) => n * d, 1)).fill(1n),
});

/** A mask as whole numbers, whatever type the file takes it in. */
function asInt64(mask: Tensor): Tensor<DType> {
  if (mask.dtype === 'int64') return mask;
  return { dtype: 'int64', dims: mask.dims, data: BigInt64Array.from(mask.data as Float32Array, (v) => (v ? 1n : 0n)) };
}
