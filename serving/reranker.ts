/** @file A cross-encoder for programs: one query, some documents, a logit each. */
import type { Watch } from '../common/progress.ts';
import { type CrossEncoderOptions, crossEncoder } from '../teachers/cross-encoder.ts';

export interface OpenRerankerOptions {
  /** Tokens of a query and of a document alone; as the model's folder says by default. */
  queryTokens?: number;
  documentTokens?: number;
  /** Which label of a model with several says relevance. */
  label?: CrossEncoderOptions['label'];
}

export interface Reranker {
  readonly name: string;
  /** Of the model's bytes, its tokenizer and limits: equal keys give equal scores. */
  readonly key: string;
  /** What was guessed when the folder was read, in sentences. */
  readonly notes: readonly string[];
  /**
   * Logits of the documents for a query, in their order; higher is better. Pairs are sorted by length and run in batches.
   * @returns [documents.length]
   */
  score(query: string, documents: readonly string[], watch?: Watch): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/**
 * Opens a cross-encoder's folder; scores are those of `distill score` and `distill evaluate`.
 * @throws InputError where files are missing or no output is a score
 */
export async function openReranker(folder: string, options: OpenRerankerOptions = {}): Promise<Reranker> {
  const { queryTokens: maxQuery, documentTokens: maxDocument, label } = options;
  const teacher = await crossEncoder(folder, { maxQuery, maxDocument, label });
  return {
    name: teacher.name,
    key: teacher.key,
    notes: teacher.facts?.notes ?? [],
    score: (query, documents, watch) =>
      teacher.score(
        documents.map((document) => ({ queryId: '', documentId: '', query, document })),
        watch,
      ),
    dispose: () => teacher.dispose(),
  };
}
