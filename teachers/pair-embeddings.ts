/** @file Dual pooling: a cross-encoder's query and document vectors from the joint encoding of a pair. */
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import type { BlockSize } from '../data/batches.ts';
import { Expr } from '../engine/expressions/expr.ts';
import { pool } from '../engine/expressions/pooling.ts';
import type { Graph } from '../engine/graph/ir.ts';
import { floatsOf, type Tensor } from '../engine/graph/tensor.ts';
import { loadGraph } from '../engine/io/onnx-file.ts';
import { forwardBytes, tokensWithin } from '../engine/runtime/forward-memory.ts';
import { batchTokens, Session, type SessionOptions } from '../engine/runtime/session.ts';
import { pearson } from '../math/rank-correlation.ts';
import { hiddenStates } from './dual-pooling-head.ts';
import { type ReadingOptions, readFolder } from './reading/describe.ts';
import { scoreRule } from './reading/labels.ts';
import { prompted } from './reading/pair-config.ts';
import type { Pair } from './teacher.ts';

export interface PairEmbeddings {
  dimensions: number;
  /** [n, dimensions] mean over the query's tokens, and over the document's, within the pair. */
  queries: Float32Array;
  documents: Float32Array;
  /** [n] the logit of a model with one, the difference of two. */
  logits: Float32Array;
  /**
   * Pearson correlation over the pairs of the logit with the dot product of the two vectors, and with their cosine. Dual pooling
   * is meant for cross-encoders trained to score by that product; of one trained otherwise the vectors are not account of its
   * scores, and this says how far.
   */
  correlation: { dot: number; cosine: number };
}

export interface DualPooling {
  read(pairs: readonly Pick<Pair, 'query' | 'document'>[], watch?: RunControl): Promise<PairEmbeddings>;
  dispose(): Promise<void>;
}

export interface DualPoolingOptions extends Omit<ReadingOptions, 'output'> {
  /** Padded tokens a batch. */
  batchTokens?: number;
  session?: SessionOptions;
}

/**
 * Opens a cross-encoder's folder, its graph cut before the classifier: hidden states H [L, D] of the last layer are pooled over
 * the query's tokens and over the document's, special tokens left out.
 *
 *     e_q(q, d) = mean of H over the query's tokens,  e_d(q, d) = mean of H over the document's
 *
 * The targets of the loss `pair-matching`. A text without tokens gives the zero vector.
 *
 * @throws InputError where the model has no logits or no layers are found
 * @source Kim, Rawat, Zaheer et al. 2023 (arXiv 2301.12005); `appendDualHead` is the head that the paper fine-tunes
 */
export async function dualPooling(folder: string, options: DualPoolingOptions = {}): Promise<DualPooling> {
  const { files, tokenizer, plan, limits, own: config } = await readFolder(folder, options);
  const graph = await loadGraph(files.model);
  exposeSegments(graph, files.model);
  const bytesAToken = forwardBytes(graph);
  const session = await Session.load(graph, options.session, files.model);
  const special = new Set(tokenizer.encodePair('', '', limits).ids);

  return {
    async read(pairs, watch = {}) {
      const texts = pairs.map((p) => prompted(config, p));
      const tokens = texts.map((p) => tokenizer.encodePair(p.query, p.document, limits));
      const found = {
        queries: new Float32Array(0),
        documents: new Float32Array(0),
        logits: new Float32Array(pairs.length),
      };
      let [dimensions, done] = [0, 0];
      const lengths = tokens.map((t) => t.ids.length);
      const longest = lengths.reduce((a, b) => Math.max(a, b), 1);
      const wanted = options.batchTokens ?? batchTokens(options.session);
      const most = tokensWithin(wanted, watch.memory, bytesAToken(longest));
      for (const { at, ...shape } of plan.batches(lengths, most, session.onDevice, limits.maxLength)) {
        watch.signal?.throwIfAborted();
        const rows = at.map((i) => tokens[i]);
        const own = rows.map((t, r) => segmentsOf(t.ids, special, texts[at[r]].query.trim() !== ''));
        const out = await session.run({ ...plan.feeds(rows, shape), ...segmentFeeds(own, shape) });
        dimensions = out.pair_queries.dims[1];
        if (!found.queries.length) {
          found.queries = new Float32Array(pairs.length * dimensions);
          found.documents = new Float32Array(pairs.length * dimensions);
        }
        const [queries, documents, logits] = ['pair_queries', 'pair_documents', 'logits'].map((n) => floatsOf(out[n]));
        const columns = logits.length / shape.rows;
        const rule = scoreRule(columns, files.config, files.model, options.label);
        for (const [r, i] of at.entries()) {
          const row = (all: Float32Array): Float32Array => all.subarray(r * dimensions, (r + 1) * dimensions);
          found.queries.set(row(queries), i * dimensions);
          found.documents.set(row(documents), i * dimensions);
          found.logits[i] = rule.read(logits, r * columns);
        }
        done += at.length;
        watch.onProgress?.({ stage: 'read pairs', done, total: pairs.length, unit: 'pairs' });
      }
      return { dimensions, ...found, correlation: correlationOf(found, dimensions) };
    },
    dispose: () => session.release(),
  };
}

/**
 * Adds to a cross-encoder the inputs `query_segment` and `document_segment` [B, L] (int64, 1 at a segment's tokens) and the
 * outputs `pair_queries` and `pair_documents` [B, D], in addition to its logits.
 */
export function exposeSegments(graph: Graph, file = 'the cross-encoder'): void {
  const logits = graph.outputs.find((v) => v.name === 'logits');
  if (!logits)
    throw new InputError({
      code: 'teacher.no-logits',
      subject: `${file} has the outputs ${graph.outputs.map((v) => v.name).join(', ')}`,
      expected: 'logits',
      remedy: 'give a cross-encoder (a sequence classification model)',
    });
  const hidden = new Expr(graph, hiddenStates(graph, file));
  graph.setOutputs(logits);
  for (const [segment, output] of [
    ['query_segment', 'pair_queries'],
    ['document_segment', 'pair_documents'],
  ]) {
    const mask = new Expr(graph, graph.input(segment, 'int64', ['batch_size', 'sequence_length']));
    graph.output(pool(hidden, mask, 'mean').value, output);
  }
}

/** Positions of the tokens of the two texts: between runs of special tokens, the query's first. */
export function segmentsOf(
  ids: ArrayLike<number>,
  special: ReadonlySet<number>,
  hasQuery = true,
): { query: [number, number]; document: [number, number] } {
  const next = (from: number, inside: boolean): number => {
    let at = from;
    while (at < ids.length && special.has(ids[at]) !== inside) at++;
    return at;
  };
  const start = next(0, false);
  if (!hasQuery) return { query: [start, start], document: [start, next(start, true)] };
  const end = next(start, true);
  const document = next(end, false);
  return { query: [start, end], document: [document, next(document, true)] };
}

/** Which tokens are the query's and which the document's; rows that fill a batch up have one token of each. */
function segmentFeeds(
  segments: readonly ReturnType<typeof segmentsOf>[],
  { rows, length }: BlockSize,
): Record<string, Tensor> {
  const mask = (which: 'query' | 'document'): Tensor => {
    const data = new BigInt64Array(rows * length);
    for (const [r, s] of segments.entries()) data.fill(1n, r * length + s[which][0], r * length + s[which][1]);
    for (let r = segments.length; r < rows; r++) data[r * length] = 1n;
    return { dtype: 'int64', dims: [rows, length], data };
  };
  return { query_segment: mask('query'), document_segment: mask('document') };
}

function correlationOf(
  { queries, documents, logits }: Pick<PairEmbeddings, 'queries' | 'documents' | 'logits'>,
  D: number,
): PairEmbeddings['correlation'] {
  const [dots, cosines] = [new Float64Array(logits.length), new Float64Array(logits.length)];
  for (let i = 0; i < logits.length; i++) {
    let [qd, qq, dd] = [0, 0, 0];
    for (let k = i * D; k < (i + 1) * D; k++) {
      qd += queries[k] * documents[k];
      qq += queries[k] ** 2;
      dd += documents[k] ** 2;
    }
    dots[i] = qd;
    cosines[i] = qd / Math.sqrt(qq * dd || 1);
  }
  return { dot: pearson(dots, logits), cosine: pearson(cosines, logits) };
}
