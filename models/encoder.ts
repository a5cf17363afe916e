/** @file Runs a dual-encoder: texts to vectors, sorted by length, in batches of similar numbers of tokens. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { hashParts } from '../common/files.ts';
import type { Progress, RunControl } from '../common/progress.ts';
import { type BatchShape, type BlockSize, padBatch, shapedBatches } from '../data/batches.ts';
import type { Texts } from '../data/dataset.ts';
import type { TextTokenizer, Tokens } from '../data/tokenizer.ts';
import type { Graph } from '../engine/graph/ir.ts';
import type { Tensor } from '../engine/graph/tensor.ts';
import { loadGraph } from '../engine/io/onnx-file.ts';
import { forwardBytes, tokensWithin } from '../engine/runtime/forward-memory.ts';
import { batchTokens, Session } from '../engine/runtime/session.ts';
import { describeEncoder, type EncoderOptions, encoderKey } from './encoder-description.ts';
import {
  appendHead,
  checkVocabulary,
  encoderOutput,
  hiddenStart,
  type InputShape,
  isPooled,
  POOLED,
  shapeOf,
  tokenInputs,
  typedInput,
} from './encoder-graph.ts';
import { type EncoderSession, isUnread, ofGraph, openStanding } from './encoder-session.ts';
import { firstPosition, hidesPadding } from './model-folder.ts';
import type { Head, Similarity } from './modules/head.ts';
import { noPrompts, type Prompt, type Prompts, type Role, withPrompt } from './modules/prompts.ts';
import { positionsAmong, positionsIn } from './sentence-folder.ts';

export { describeEncoder, type EncoderDescription, type EncoderOptions, encoderKey } from './encoder-description.ts';
export { checkVocabulary, encoderOutput } from './encoder-graph.ts';

/** Texts tokenised at a time: enough for sorting by length, few enough for memory. */
const CHUNK = 32_768;
/** Characters of a text that is compared with others by its hash. */
const LONG_TEXT = 16_384;
/** Limits and prompt of the texts that are encoded, and the control of the work. */
export interface EncodeOptions extends RunControl {
  /** Maximum tokens per text, with special tokens and prompt; the folder's limit by default. */
  maxLength?: number;
  /** Whose prompt the texts are given; the folder's default prompt by default, as sentence-transformers' encode does. */
  role?: Role;
  /** Name of the work in progress events. */
  stage?: string;
}

/** Description of a given graph. */
interface GivenGraph extends Pick<EncoderOptions, 'batchTokens' | 'session'> {
  tokenizer: TextTokenizer;
  head: Head;
  maxLength: number;
  prompts?: Prompts;
  similarity?: Similarity;
  notes?: readonly string[];
  /** Maximum number of positions: texts are always truncated to it. */
  positions?: number;
  /** Of the graph's weights. */
  hash: string;
  name: string;
}

/** An open dual-encoder: texts to vectors, sorted by length, in batches. */
export class Encoder {
  /** Width of the embeddings. */
  readonly dimensions: number;
  /** Of the model's bytes, its tokenizer and how vectors are pooled. */
  readonly key: string;
  readonly tokenizer: TextTokenizer;
  /** Tokens that texts are cut at by default. */
  readonly maxLength: number;
  readonly prompts: Prompts;
  /** How the model's vectors are compared. */
  readonly similarity: Similarity;
  /** Notes on assumptions made and parts ignored when the folder was read. */
  readonly notes: readonly string[];
  /** How token vectors become one, several joined by +; `graph` where the model's file gives the vector and its folder does not say how. */
  readonly pooling: string;
  private readonly positions: number;
  private readonly bytesAToken: (length: number) => number;
  private readonly session: EncoderSession;
  /** Padded tokens of a batch. */
  readonly batchTokens: number;
  private readonly shape: InputShape;
  private readonly includePrompt: boolean;

  private constructor(
    parts: Pick<
      Encoder,
      'dimensions' | 'key' | 'tokenizer' | 'maxLength' | 'prompts' | 'similarity' | 'notes' | 'pooling' | 'batchTokens'
    > & {
      session: EncoderSession;
      positions: number;
      bytesAToken: (n: number) => number;
      shape: InputShape;
      includePrompt: boolean;
    },
  ) {
    this.dimensions = parts.dimensions;
    this.key = parts.key;
    this.tokenizer = parts.tokenizer;
    this.maxLength = parts.maxLength;
    this.prompts = parts.prompts;
    this.similarity = parts.similarity;
    this.notes = parts.notes;
    this.pooling = parts.pooling;
    this.bytesAToken = parts.bytesAToken;
    this.positions = parts.positions;
    this.session = parts.session;
    this.batchTokens = parts.batchTokens;
    this.shape = parts.shape;
    this.includePrompt = parts.includePrompt;
  }

  /**
   * Opens a model folder as sentence-transformers and transformers.js lay it out. A file that this engine does not read as a
   * graph, but ONNX Runtime runs (control flow, functions, other element types, weights over 2 GiB), is loaded by it unchanged.
   * @throws InputError where files are missing or not understood, the graph is not an encoder or the tokenizer does not fit its
   * table
   */
  static async load(folder: string, options: EncoderOptions = {}): Promise<Encoder> {
    const { files, ...described } = await describeEncoder(folder, options);
    const first = firstPosition(files.config);
    const preferTokens = existsSync(join(files.folder, 'modules.json'));
    const hidesPad = hidesPadding(files.config);
    const own = { ...options, ...described, firstPosition: first, hidesPad, name: files.model, preferTokens };
    try {
      const graph = await loadGraph(files.model);
      checkVocabulary(graph, described.tokenizer, folder);
      const positions = positionsIn(graph, files.config);
      await options.rewrite?.(graph, positions);
      return await Encoder.of(graph, { ...own, positions });
    } catch (error) {
      // A file that is run as it stands cannot be changed.
      if (options.rewrite || !isUnread(error)) throw error;
    }
    const { tokenizer, head } = described;
    const { session, model, bytesAToken, pools } = await openStanding(files.model, {
      head,
      preferTokens,
      session: options.session,
      config: files.config,
      rows: { ids: tokenizer.vocabularySize, folder },
    });
    const positions = positionsAmong(model.weights, files.config);
    return Encoder.ready(session, shapeOf(model, first, hidesPad), bytesAToken, { ...own, positions, pools });
  }

  /** An encoder of a graph in hand; the graph is changed: pooling is appended to it. */
  static async of(
    graph: Graph,
    options: GivenGraph & {
      /** The position of a text's first token; 0 by default. */
      firstPosition?: number;
      /** Whether its mask hides padding from it; true by default. */
      hidesPad?: boolean;
      /** Whether the head is applied to token vectors where the graph has a vector of the whole text as well. */
      preferTokens?: boolean;
    },
  ): Promise<Encoder> {
    const shape = shapeOf(graph, options.firstPosition ?? 0, options.hidesPad);
    const pools = isPooled(encoderOutput(graph, options.name, options.preferTokens));
    appendHead(graph, options.head, options.name, options.preferTokens);
    const session = await Session.load(graph, options.session, options.name);
    return Encoder.ready(ofGraph(session), shape, forwardBytes(graph), { ...options, pools });
  }

  /** Runs one text to find the width of the vectors. */
  private static async ready(
    session: EncoderSession,
    shape: InputShape,
    bytesAToken: (length: number) => number,
    options: GivenGraph & { pools: boolean; preferTokens?: boolean },
  ): Promise<Encoder> {
    const { tokenizer, head, hash, pools, preferTokens } = options;
    const { positions = Number.POSITIVE_INFINITY } = options;
    const encoder = new Encoder({
      dimensions: 0,
      key: encoderKey({ hash, tokenizer, head }),
      tokenizer,
      maxLength: options.maxLength,
      prompts: options.prompts ?? noPrompts,
      similarity: options.similarity ?? 'dot',
      notes: options.notes ?? [],
      pooling: pools && !preferTokens ? 'graph' : head.pooling.join('+'),
      batchTokens: options.batchTokens ?? batchTokens(options.session),
      session,
      positions: Math.min(positions, shape.length ?? positions),
      bytesAToken,
      shape,
      includePrompt: head.includePrompt,
    });
    const probe = await encoder.run([tokenizer.encode('a', 8)], undefined, 0);
    return Object.assign(encoder, { dimensions: probe.dims[1] });
  }

  /** Tokens that a text is cut at, special tokens and prompt included. @param maxLength as `encode` takes it */
  limit(maxLength = this.maxLength): number {
    return Math.min(maxLength, this.positions);
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
    const prompt = this.prompts[options.role ?? 'text'];
    const text = (i: number): string => withPrompt(prompt, texts.text(i));
    const maxLength = this.limit(options.maxLength);
    const first = new Map<string, number>();
    const sameAs = new Int32Array(texts.length);
    const unique: number[] = [];
    const tokens: Tokens[] = [];
    for (let i = 0; i < texts.length; i++) {
      const t = text(i);
      // A long text is not held until all are tokens.
      const key = t.length > LONG_TEXT ? hashParts(t) : t;
      let at = first.get(key);
      if (at === undefined) {
        at = unique.length;
        first.set(key, at);
        unique.push(i);
        tokens.push(this.tokenizer.encode(t, maxLength));
      }
      sameAs[i] = at;
    }
    first.clear();
    const hidden = this.includePrompt ? 0 : this.promptTokens(prompt);
    const rows = await this.encodeTokens(tokens, options, hidden);
    if (unique.length === texts.length) return rows;
    const D = this.dimensions;
    const out = new Float32Array(texts.length * D);
    for (let i = 0; i < texts.length; i++) out.set(rows.subarray(sameAs[i] * D, (sameAs[i] + 1) * D), i * D);
    return out;
  }

  /** Tokens at the start of a text that are its prompt, special tokens before it included. */
  private promptTokens({ before }: Prompt): number {
    if (!before) return 0;
    return this.tokenizer.encode(before, this.maxLength).ids.length - this.tokenizer.around.after.length;
  }

  /**
   * As encode, of texts that are tokenized already, with their prompts.
   * @param hidden tokens at the start of each text that are not pooled
   */
  async encodeTokens(tokens: readonly Tokens[], options: EncodeOptions = {}, hidden = 0): Promise<Float32Array> {
    const D = this.dimensions;
    const out = new Float32Array(tokens.length * D);
    let done = 0;
    const lengths = tokens.map((t) => t.ids.length);
    const longest = lengths.reduce((a, b) => Math.max(a, b), 1);
    const most = tokensWithin(this.batchTokens, options.memory, this.bytesAToken(longest));
    if (most < this.batchTokens) this.tell(most, options);
    for (const { at, ...shape } of this.batches(lengths, most)) {
      options.signal?.throwIfAborted();
      const { data } = await this.run(
        at.map((i) => tokens[i]),
        shape,
        hidden,
      );
      const vectors = data as Float32Array;
      for (const [r, i] of at.entries()) out.set(vectors.subarray(r * D, (r + 1) * D), i * D);
      done += at.length;
      options.onProgress?.({ stage: options.stage ?? 'encode', done, total: tokens.length, unit: 'texts' });
    }
    return out;
  }

  private told = false;

  /** Reports once that batches are reduced by the memory limit. */
  private tell(tokens: number, { onProgress, stage = 'encode' }: EncodeOptions): void {
    if (this.told || !onProgress) return;
    this.told = true;
    const note = `memory: texts are encoded ${tokens} padded tokens at a time instead of ${this.batchTokens}`;
    onProgress({ stage, done: 0, unit: 'texts', note });
  }

  /** Frees the session. */
  async dispose(): Promise<void> {
    await this.session.release();
  }

  /** Batches of the sizes that the graph takes. */
  private batches(lengths: readonly number[], most: number): BatchShape[] {
    const { rows, length, masked } = this.shape;
    const found = masked
      ? shapedBatches(lengths, most, this.session.onDevice, this.positions)
      : equalLengths(lengths, most);
    if (rows === undefined && length === undefined) return found;
    return found.flatMap((batch) => {
      const each = rows ?? batch.at.length;
      return Array.from({ length: Math.ceil(batch.at.length / each) }, (_, k) => ({
        at: batch.at.slice(k * each, (k + 1) * each),
        rows: each,
        length: length ?? batch.length,
      }));
    });
  }

  private async run(tokens: readonly Tokens[], shape: BlockSize | undefined, hidden: number): Promise<Tensor> {
    const { rows = tokens.length, length: fixed, dtypes, firstPosition, sharedPositions } = this.shape;
    const longest = tokens.reduce((n, t) => Math.max(n, t.ids.length), 1);
    const side = fixed === undefined ? 'right' : this.tokenizer.paddingSide;
    const b = padBatch(tokens, this.tokenizer.padId, shape ?? { rows, length: fixed ?? longest }, side);
    const all = tokenInputs(b, firstPosition, sharedPositions);
    if (!this.includePrompt)
      all[POOLED] = { ...all.attention_mask, data: hiddenStart(b.mask, b.length, hidden) } as Tensor;
    const feeds = Object.fromEntries(
      this.session.inputs.map((name) => [name, typedInput(all[name], dtypes.get(name) ?? 'int64')]),
    );
    return this.session.run(feeds);
  }
}

/** Batches of texts of one length, for models to which padding cannot be hidden. */
function equalLengths(lengths: readonly number[], most: number): BatchShape[] {
  const byLength = new Map<number, number[]>();
  for (const [i, n] of lengths.entries()) {
    const same = byLength.get(n);
    if (same) same.push(i);
    else byLength.set(n, [i]);
  }
  return [...byLength].flatMap(([length, all]) => {
    const rows = Math.max(1, Math.floor(most / Math.max(1, length)));
    return Array.from({ length: Math.ceil(all.length / rows) }, (_, k) => {
      const at = all.slice(k * rows, (k + 1) * rows);
      return { at, rows: at.length, length: Math.max(1, length) };
    });
  });
}
