/** @file A dual-encoder at work: texts to vectors, sorted by length, in batches of about as many tokens each. */
import { InputError } from '../common/errors.ts';
import { hashParts } from '../common/files.ts';
import type { Progress, Watch } from '../common/progress.ts';
import { type BlockSize, type PaddedBatch, padBatch, shapedBatches } from '../data/batches.ts';
import type { Texts } from '../data/dataset.ts';
import { TextTokenizer, type Tokens } from '../data/tokenizer.ts';
import { Expr } from '../engine/expressions/expr.ts';
import { type Pooling, pool } from '../engine/expressions/pooling.ts';
import type { Graph, Value } from '../engine/graph/ir.ts';
import type { Tensor } from '../engine/graph/tensor.ts';
import { loadGraph } from '../engine/io/onnx-file.ts';
import { forwardBytes, tokensWithin } from '../engine/runtime/forward-memory.ts';
import { batchTokens, Session, type SessionOptions } from '../engine/runtime/session.ts';
import { type ModelFolder, modelHash, positionsOf, readModelFolder } from './model-folder.ts';

export interface EncoderOptions {
  pooling?: Pooling;
  normalize?: boolean;
  /** Padded tokens a batch; by default what suits the threads or the device. */
  batchTokens?: number;
  session?: SessionOptions;
}

/** Texts tokenised at a time: enough to sort by length, few enough to hold. */
const CHUNK = 32_768;

export interface EncodeOptions extends Watch {
  /** Tokens a text, special tokens included. */
  maxLength?: number;
  /** What progress calls the work. */
  stage?: string;
}

/** What a model folder and options say of an encoder, without opening it. */
export interface EncoderDescription {
  files: ModelFolder;
  tokenizer: TextTokenizer;
  pooling: Pooling;
  normalize: boolean;
  maxLength: number;
  /** Of the model's weights. */
  hash: string;
}

export async function describeEncoder(folder: string, options: EncoderOptions = {}): Promise<EncoderDescription> {
  const files = await readModelFolder(folder);
  const tokenizer = await TextTokenizer.load(files.folder);
  return {
    files,
    tokenizer,
    pooling: options.pooling ?? files.pooling,
    normalize: options.normalize ?? files.normalize,
    maxLength: Math.min(files.maxLength ?? 512, tokenizer.modelMaxLength ?? 512),
    hash: await modelHash(files.model),
  };
}

/** Equal keys give equal vectors. */
export const encoderKey = (
  d: Pick<EncoderDescription, 'hash' | 'pooling' | 'normalize'> & { tokenizer: Pick<TextTokenizer, 'hash'> },
): string => hashParts(d.hash, d.tokenizer.hash, d.pooling, String(d.normalize));

export class Encoder {
  /** Width of the embeddings. */
  readonly dimensions: number;
  /** Of the model's bytes, its tokenizer and how vectors are pooled. */
  readonly key: string;
  readonly tokenizer: TextTokenizer;
  readonly maxLength: number;
  private readonly positions: number;
  private readonly bytesAToken: (length: number) => number;
  private readonly session: Session;
  private readonly batchTokens: number;

  private constructor(
    parts: Pick<Encoder, 'dimensions' | 'key' | 'tokenizer' | 'maxLength'>,
    session: Session,
    batchTokens: number,
    positions: number,
    bytesAToken: (length: number) => number,
  ) {
    this.bytesAToken = bytesAToken;
    this.positions = positions;
    this.dimensions = parts.dimensions;
    this.key = parts.key;
    this.tokenizer = parts.tokenizer;
    this.maxLength = parts.maxLength;
    this.session = session;
    this.batchTokens = batchTokens;
  }

  /**
   * Opens a model folder as sentence-transformers and transformers.js lay it out.
   * @throws InputError where files are missing, the graph is no encoder or the tokenizer does not fit its table
   */
  static async load(folder: string, options: EncoderOptions = {}): Promise<Encoder> {
    const { files, tokenizer, ...described } = await describeEncoder(folder, options);
    const graph = await loadGraph(files.model);
    checkVocabulary(graph, tokenizer, folder);
    const positions = positionsOf(files.config);
    return Encoder.of(graph, { ...options, ...described, positions, tokenizer, name: files.model });
  }

  /** An encoder of a graph in hand; the graph is changed: pooling is appended to it. */
  static async of(
    graph: Graph,
    options: EncoderOptions & {
      tokenizer: TextTokenizer;
      pooling: Pooling;
      normalize: boolean;
      maxLength: number;
      /** Tokens that it has positions for: texts are cut there whatever is asked for. */
      positions?: number;
      /** Of the graph's weights. */
      hash: string;
      name: string;
    },
  ): Promise<Encoder> {
    const { tokenizer, pooling, maxLength, hash, name } = options;
    appendPooling(graph, pooling, options.normalize, name);
    const bytesAToken = forwardBytes(graph);
    const session = await Session.load(graph, options.session, name);
    const key = encoderKey({ hash, tokenizer, pooling, normalize: options.normalize });
    const parts = { dimensions: 0, key, tokenizer, maxLength };
    const { positions = Number.POSITIVE_INFINITY } = options;
    const encoder = new Encoder(
      parts,
      session,
      options.batchTokens ?? batchTokens(options.session),
      positions,
      bytesAToken,
    );
    const probe = await encoder.run([tokenizer.encode('a', 8)]);
    return Object.assign(encoder, { dimensions: probe.dims[1] });
  }

  /** @returns [n, dimensions] row-major, in the order of the texts; equal texts near each other are encoded once */
  async encode(texts: readonly string[] | Texts, options: EncodeOptions = {}): Promise<Float32Array> {
    const text = Array.isArray(texts) ? (i: number) => (texts as string[])[i] : (i: number) => (texts as Texts).text(i);
    if (texts.length <= CHUNK) return this.encodeChunk({ length: texts.length, text }, options);
    // Only so many texts are held as tokens at a time: a corpus of millions costs its embeddings and nothing more.
    const out = new Float32Array(texts.length * this.dimensions);
    for (let at = 0; at < texts.length; at += CHUNK) {
      const part = { length: Math.min(CHUNK, texts.length - at), text: (i: number) => text(at + i) };
      const onProgress =
        options.onProgress && ((p: Progress) => options.onProgress?.({ ...p, done: at + p.done, total: texts.length }));
      out.set(await this.encodeChunk(part, { ...options, onProgress }), at * this.dimensions);
    }
    return out;
  }

  private async encodeChunk(texts: Texts, options: EncodeOptions): Promise<Float32Array> {
    const text = (i: number): string => texts.text(i);
    const maxLength = Math.min(options.maxLength ?? this.maxLength, this.positions);
    const first = new Map<string, number>();
    const sameAs = new Int32Array(texts.length);
    const unique: number[] = [];
    const tokens: Tokens[] = [];
    for (let i = 0; i < texts.length; i++) {
      const t = text(i);
      let at = first.get(t);
      if (at === undefined) {
        at = unique.length;
        first.set(t, at);
        unique.push(i);
        tokens.push(this.tokenizer.encode(t, maxLength));
      }
      sameAs[i] = at;
    }
    first.clear();
    const rows = await this.encodeTokens(tokens, options);
    if (unique.length === texts.length) return rows;
    const D = this.dimensions;
    const out = new Float32Array(texts.length * D);
    for (let i = 0; i < texts.length; i++) out.set(rows.subarray(sameAs[i] * D, (sameAs[i] + 1) * D), i * D);
    return out;
  }

  /** As encode, of texts that are tokenized already. */
  async encodeTokens(tokens: readonly Tokens[], options: EncodeOptions = {}): Promise<Float32Array> {
    const D = this.dimensions;
    const out = new Float32Array(tokens.length * D);
    let done = 0;
    const lengths = tokens.map((t) => t.ids.length);
    const longest = lengths.reduce((a, b) => Math.max(a, b), 1);
    const most = tokensWithin(this.batchTokens, options.memory, this.bytesAToken(longest));
    if (most < this.batchTokens) this.tell(most, options);
    for (const { at, ...shape } of shapedBatches(lengths, most, this.session.onDevice, this.positions)) {
      options.signal?.throwIfAborted();
      const { data } = await this.run(
        at.map((i) => tokens[i]),
        shape,
      );
      const vectors = data as Float32Array;
      for (const [r, i] of at.entries()) out.set(vectors.subarray(r * D, (r + 1) * D), i * D);
      done += at.length;
      options.onProgress?.({ stage: options.stage ?? 'encode', done, total: tokens.length, unit: 'texts' });
    }
    return out;
  }

  private told = false;

  /** Says once that batches are smaller than they would be. */
  private tell(tokens: number, { onProgress, stage = 'encode' }: EncodeOptions): void {
    if (this.told || !onProgress) return;
    this.told = true;
    const note = `memory: texts are encoded ${tokens} padded tokens at a time instead of ${this.batchTokens}`;
    onProgress({ stage, done: 0, unit: 'texts', note });
  }

  async dispose(): Promise<void> {
    await this.session.release();
  }

  private async run(tokens: readonly Tokens[], shape?: BlockSize): Promise<Tensor> {
    const b = padBatch(tokens, this.tokenizer.padId, shape);
    const all = tokenInputs(b);
    const feeds = Object.fromEntries(this.session.inputs.map((name) => [name, all[name]]));
    const result = await this.session.run(feeds);
    return result[this.session.outputs[0]];
  }
}

/** A padded batch under the names of a transformer's inputs. */
export function tokenInputs({ rows, length, ids, mask, typeIds }: PaddedBatch): Record<string, Tensor> {
  const dims = [rows, length];
  return {
    input_ids: { dtype: 'int64', dims, data: ids },
    attention_mask: { dtype: 'int64', dims, data: mask },
    token_type_ids: { dtype: 'int64', dims, data: typeIds },
  };
}

/**
 * The output that an encoder's vectors are read from.
 * @throws InputError where the graph has none, or wants inputs that no tokenizer gives
 */
export function encoderOutput(graph: Graph, file: string): Value {
  for (const v of graph.inputs)
    if (!['input_ids', 'attention_mask', 'token_type_ids'].includes(v.name))
      throw new InputError({
        code: 'model.no-encoder',
        subject: `${file} wants an input '${v.name}'`,
        expected: 'input_ids, attention_mask and perhaps token_type_ids',
        remedy: 'export the encoder without it',
      });
  const found = ['sentence_embedding', 'last_hidden_state', 'token_embeddings'].flatMap((name) =>
    graph.outputs.filter((v) => v.name === name),
  )[0];
  if (found) return found;
  throw new InputError({
    code: 'model.no-encoder',
    subject: `${file} has the outputs ${graph.outputs.map((v) => v.name).join(', ')}`,
    expected: 'last_hidden_state or sentence_embedding',
    remedy: 'give a dual-encoder (a feature-extraction model), not a classifier',
  });
}

/** Pooling and normalisation inside the graph, unless it has a pooled output already. */
export function appendPooling(graph: Graph, pooling: Pooling, unit: boolean, file: string): void {
  const hidden = encoderOutput(graph, file);
  const ready = hidden.name === 'sentence_embedding';
  let mask = graph.inputs.find((v) => v.name === 'attention_mask');
  mask ??= graph.input('attention_mask', 'int64', ['batch', 'sequence']);
  let out = new Expr(graph, hidden);
  if (!ready) out = pool(out, new Expr(graph, mask), pooling);
  if (!ready && unit) out = out.l2Normalize();
  graph.setOutputs(out.value);
  graph.prune();
}

/** @throws InputError where the tokenizer has ids beyond the table that they are looked up in */
export function checkVocabulary(graph: Graph, tokenizer: TextTokenizer, folder: string): void {
  const lookup = graph.nodes.find((n) => n.op === 'Gather' && n.inputs[1]?.name === 'input_ids');
  const rows = lookup?.inputs[0]?.constant?.dims[0];
  if (rows !== undefined && tokenizer.vocabularySize > rows)
    throw new InputError({
      code: 'model.tokenizer-mismatch',
      subject: `the tokenizer of ${folder} has ids up to ${tokenizer.vocabularySize - 1}`,
      expected: `ids below ${rows}, the rows of the model's word table`,
      remedy: 'use the tokenizer that the model was trained with',
    });
}
