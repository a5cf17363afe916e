/** @file Batches of late interaction: queries and candidates drawn as for a dual-encoder, their token states read from files. */
import type { Tensor } from '../../engine/graph/tensor.ts';
import type { TokenStates } from '../../students/late/token-states.ts';
import { type BatchOptions, type Examples, makeBatch } from '../batches/dual-encoder-batch.ts';

export interface LateSource {
  examples: Examples;
  /** Of the query table and of the document table. */
  queries: TokenStates;
  documents: TokenStates;
  /** Most tokens of a query and of a document. */
  queryTokens: number;
  documentTokens: number;
  /** Whether every batch is padded to these. */
  fixedLengths?: boolean;
  /** Whether every query is compared with every document of the step. */
  all: boolean;
}

export interface LateBatch {
  exampleIds: readonly number[];
  feeds: Record<string, Tensor>;
}

const EMPTY = { ids: Int32Array.of(0), typeIds: Int32Array.of(0) };

/** The batch of a step; a seed and a step always give the same one. */
export function makeLateBatch(
  source: LateSource,
  step: number,
  options: Pick<BatchOptions, 'queries' | 'candidates' | 'seed'>,
): LateBatch {
  const { examples, queries, documents, all, fixedLengths } = source;
  const drawing = { examples, queryTokens: () => EMPTY, documentTokens: () => EMPTY, padId: 0, frozenDocuments: true };
  const batch = makeBatch(drawing, step, { ...options, documentGroups: 1 });
  const asked = batch.exampleIds.map((e) => examples.queries[e]);
  const drawn = batch.drawn.map((own) => own.map((at) => examples.documents[at]));
  const N = batch.candidates.dims[1];
  // As makeBatch counts them: each document once, in the order in which it was first drawn.
  const unique = [...new Set(drawn.flat())];
  const listed = all ? unique : drawn.flatMap((own) => Array.from({ length: N }, (_, n) => own[n] ?? own[0]));
  const q = padded(asked, queries, source.queryTokens, fixedLengths);
  const d = padded(listed, documents, source.documentTokens, fixedLengths);
  const by = (t: Tensor): Tensor => (all ? t : { ...t, dims: [asked.length, N, ...t.dims.slice(1)] });
  const { teacher, mask, positives, inBatch, owner } = batch.arrays as Record<string, Tensor>;
  return {
    exampleIds: batch.exampleIds,
    feeds: {
      queryStates: q.states,
      queryMask: q.mask,
      documentStates: by(d.states),
      documentMask: by(d.mask),
      cosine: cosines(asked, listed, source, all ? listed.length : N),
      candidates: batch.candidates,
      teacher,
      mask,
      positives,
      inBatch,
      owner,
      weights: batch.weights,
    },
  };
}

/** [n, L, width] states of texts as float16, and their mask. */
function padded(texts: readonly number[], states: TokenStates, most: number, fixed?: boolean) {
  const { width } = states;
  const rows = texts.map((t) => states.halves(t).subarray(0, most * width));
  const length = fixed ? most : rows.reduce((n, r) => Math.max(n, r.length / width), 1);
  const data = new Uint16Array(texts.length * length * width);
  const mask = new Float32Array(texts.length * length);
  for (const [i, row] of rows.entries()) {
    data.set(row, i * length * width);
    mask.fill(1, i * length, i * length + row.length / width);
  }
  return {
    states: { dtype: 'float16', dims: [texts.length, length, width], data } as Tensor,
    mask: { dtype: 'float32', dims: [texts.length, length], data: mask } as Tensor,
  };
}

/** [B, C] products of the vectors of whole texts. @param listed the same C for all, or C a query */
function cosines(asked: readonly number[], listed: readonly number[], source: LateSource, C: number): Tensor {
  const vectors = new Map<number, Float32Array>();
  for (const d of listed) if (!vectors.has(d)) vectors.set(d, source.documents.vector(d));
  const data = new Float32Array(asked.length * C);
  for (const [b, query] of asked.entries()) {
    const own = source.queries.vector(query);
    for (let c = 0; c < C; c++) {
      const other = vectors.get(listed[source.all ? c : b * C + c]) as Float32Array;
      let dot = 0;
      for (let k = 0; k < own.length; k++) dot += own[k] * other[k];
      data[b * C + c] = dot;
    }
  }
  return { dtype: 'float32', dims: [asked.length, C], data };
}
