/** @file Runs a sparse student: documents to weights over the vocabulary, queries to weights of their tokens without inference. */
import type { RunControl } from '../../common/progress.ts';
import type { Texts } from '../../data/dataset.ts';
import type { TextTokenizer } from '../../data/tokenizer.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import type { SessionOptions } from '../../engine/runtime/session.ts';
import { Encoder } from '../encoder.ts';
import { type Prompts, withPrompt } from '../modules/prompts.ts';

/** Token ids with their weights, no id twice. */
export interface QueryWeights {
  readonly ids: Int32Array;
  readonly weights: Float32Array;
}

/** Sparse vectors of documents: row d is from `offsets[d]` to `offsets[d + 1]`, ids ascending. */
export interface DocumentWeights {
  readonly offsets: Float64Array;
  readonly ids: Int32Array;
  readonly weights: Float32Array;
}

interface Parts {
  tokenizer: TextTokenizer;
  /** [V] what a token of a query weighs. */
  queries: Float32Array;
  prompts: Prompts;
  /** Tokens that documents are cut at. */
  maxLength: number;
  positions: number;
  session?: SessionOptions;
  name: string;
}

/** Documents whose weights are dense at a time: V numbers each. */
const ROWS = 64;
/** Padded tokens of a batch, each with a product for every token of the vocabulary. */
export const SPARSE_BATCH_TOKENS = 1024;

/** An open sparse student. */
export class SparseEncoder {
  readonly tokenizer: TextTokenizer;
  /** Size of the vocabulary. */
  readonly vocabulary: number;
  /** [V] what a token of a query weighs. */
  readonly queryTable: Float32Array;
  readonly prompts: Prompts;
  private readonly encoder: Encoder;

  private constructor(encoder: Encoder, parts: Parts) {
    this.encoder = encoder;
    this.tokenizer = parts.tokenizer;
    this.queryTable = parts.queries;
    this.prompts = parts.prompts;
    this.vocabulary = encoder.dimensions;
  }

  /** @param graph ids and mask to [batch, V], named sentence_embedding; it is changed */
  static async of(graph: Graph, parts: Parts): Promise<SparseEncoder> {
    const encoder = await Encoder.of(graph, {
      tokenizer: parts.tokenizer,
      head: { pooling: ['mean'], includePrompt: true, modules: [] },
      prompts: parts.prompts,
      maxLength: parts.maxLength,
      positions: parts.positions,
      session: parts.session,
      batchTokens: SPARSE_BATCH_TOKENS,
      hash: '',
      name: parts.name,
    });
    return new SparseEncoder(encoder, parts);
  }

  /** A query's distinct tokens with their weights, those of weight 0 left out. @param limit tokens that it is cut at */
  query(text: string, limit = Number.POSITIVE_INFINITY): QueryWeights {
    const ids = [...new Set(this.tokenizer.plain(withPrompt(this.prompts.query, text), limit))].filter(
      (t) => this.queryTable[t],
    );
    return { ids: Int32Array.from(ids), weights: Float32Array.from(ids, (t) => this.queryTable[t]) };
  }

  /** Documents' weights above 0. @param options.maxLength tokens that they are cut at, special tokens included */
  async documents(texts: Texts, options: RunControl & { maxLength?: number } = {}): Promise<DocumentWeights> {
    const { maxLength, ...watch } = options;
    const V = this.vocabulary;
    // Texts of similar length share a batch; at most ROWS dense rows are held.
    const order = Int32Array.from({ length: texts.length }, (_, i) => i);
    const lengths = Int32Array.from(order, (i) => texts.text(i).length);
    order.sort((a, b) => lengths[b] - lengths[a] || a - b);
    const rows: { ids: number[]; weights: number[] }[] = Array(texts.length);
    for (let at = 0; at < order.length; at += ROWS) {
      const part = order.subarray(at, at + ROWS);
      const dense = await this.encoder.encode(
        { length: part.length, text: (i) => texts.text(part[i]) },
        { signal: watch.signal, memory: watch.memory, maxLength, role: 'document' },
      );
      for (const [r, d] of part.entries()) {
        const row = { ids: [] as number[], weights: [] as number[] };
        for (let t = 0, from = r * V; t < V; t++)
          if (dense[from + t] > 0) {
            row.ids.push(t);
            row.weights.push(dense[from + t]);
          }
        rows[d] = row;
      }
      const done = Math.min(at + ROWS, order.length);
      watch.onProgress?.({ stage: 'encode documents', done, total: order.length, unit: 'texts' });
    }
    const offsets = new Float64Array(texts.length + 1);
    for (const [d, { ids }] of rows.entries()) offsets[d + 1] = offsets[d] + ids.length;
    const ids = new Int32Array(offsets[texts.length]);
    const weights = new Float32Array(ids.length);
    for (const [d, row] of rows.entries()) {
      ids.set(row.ids, offsets[d]);
      weights.set(row.weights, offsets[d]);
    }
    return { offsets, ids, weights };
  }

  /** Frees the session. */
  dispose(): Promise<void> {
    return this.encoder.dispose();
  }
}
