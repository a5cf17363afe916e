/** @file A cross-encoder for programs: one query, some documents, a logit each. */
import { FaultError, shown } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { firstNotFinite } from '../math/finite.ts';
import { type CrossEncoderOptions, crossEncoder } from '../teachers/cross-encoder.ts';
import type { Teacher } from '../teachers/teacher.ts';

/** Where texts are cut, and which label is read. */
export interface OpenRerankerOptions {
  /** Tokens of a query and of a document alone; as the model's folder says by default. */
  queryTokens?: number;
  documentTokens?: number;
  /** Which label of a model with several says relevance. */
  label?: CrossEncoderOptions['label'];
}

/** An open cross-encoder. Dispose of it when it is not needed any more. */
export interface Reranker {
  readonly name: string;
  /** Of the model's bytes, its tokenizer and limits: equal keys give equal scores. */
  readonly key: string;
  /** What was guessed when the folder was read, in sentences. */
  readonly notes: readonly string[];
  /**
   * Logits of the documents for a query, in their order; higher is better. Pairs are sorted by length and run in batches.
   * @returns [documents.length]
   * @throws FaultError where a logit is not finite
   */
  score(query: string, documents: readonly string[], watch?: RunControl): Promise<Float32Array>;
  /** Frees the session. */
  dispose(): Promise<void>;
}

/**
 * Opens a cross-encoder's folder; scores are those of `distill score` and `distill evaluate`.
 * @throws InputError where files are missing or no output is a score
 */
export async function openReranker(folder: string, options: OpenRerankerOptions = {}): Promise<Reranker> {
  const { queryTokens: maxQuery, documentTokens: maxDocument, label } = options;
  return rerankerOf(await crossEncoder(folder, { maxQuery, maxDocument, label }));
}

/** A teacher as re-ranker. */
export function rerankerOf(teacher: Teacher): Reranker {
  return {
    name: teacher.name,
    key: teacher.key,
    notes: teacher.facts?.notes ?? [],
    async score(query, documents, watch) {
      const pairs = documents.map((document) => ({ queryId: '', documentId: '', query, document }));
      const logits = await teacher.score(pairs, watch);
      const bad = firstNotFinite(logits);
      if (bad < 0) return logits;
      throw new FaultError({
        code: 'reranker.not-finite',
        subject: `${teacher.name} gives ${logits[bad]} for the query '${shown(query.slice(0, 60))}' with the document '${shown(documents[bad].slice(0, 60))}'`,
        remedy: 'nothing can be ranked by it; use another model, or leave such texts out',
      });
    },
    dispose: () => teacher.dispose(),
  };
}
