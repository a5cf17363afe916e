/** @file A split cross-encoder for programs: documents' states are computed once, and a query is scored against them. */
import type { RunControl } from '../common/progress.ts';
import { firstNotFinite } from '../math/finite.ts';
import { openSplit, type SplitStates } from '../teachers/split/split-cross-encoder.ts';
import { notFiniteLogit } from './reranker.ts';

/** States of one document below the cut: `count` tokens, and [count, width] numbers. */
export type DocumentStates = SplitStates;

/** An open split cross-encoder. Dispose of it when it is not needed any more. */
export interface SplitReranker {
  readonly name: string;
  /** Of the model's bytes, its tokenizer and limits: states that were stored under another key are of another model. */
  readonly key: string;
  /** Numbers a token. */
  readonly width: number;
  /** States of documents, in their order; they do not depend on any query. 4 x width bytes a token. */
  documents(texts: readonly string[], watch?: RunControl): Promise<DocumentStates[]>;
  /**
   * Logits of documents for a query, in the order of their states; higher is better.
   * @param documents states that `documents` gave, also of an earlier run of the program
   * @returns [documents.length]
   * @throws InputError where states have another width, FaultError where a logit is not finite
   */
  score(query: string, documents: readonly DocumentStates[], watch?: RunControl): Promise<Float32Array>;
  /** Frees the sessions. */
  dispose(): Promise<void>;
}

/**
 * Opens a folder that `distill split` made.
 *
 *     const reranker = await openSplitReranker('models/cross-encoder-split');
 *     const states = await reranker.documents(['first document', 'second document']);
 *     const logits = await reranker.score('a query', states);
 *
 * @throws InputError where split.json or a graph is missing or not understood
 * @source MacAvaney et al. 2020 (arXiv 2004.14255)
 */
export async function openSplitReranker(folder: string): Promise<SplitReranker> {
  const { key, width, documents, score, dispose } = await openSplit(folder);
  return {
    name: folder,
    key,
    width,
    documents,
    async score(query, states, watch) {
      const logits = await score(query, states, watch);
      const bad = firstNotFinite(logits);
      if (bad < 0) return logits;
      throw notFiniteLogit(folder, logits[bad], query, `at place ${bad}`);
    },
    dispose,
  };
}
