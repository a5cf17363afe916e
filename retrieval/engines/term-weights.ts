/** @file BM25 as weights: a number a term of a document, a number a term of a query, whose products add up to the score. */
import { type Analyzer, analyzer } from '../analyzer.ts';
import type { LexicalChannel } from '../lexical-channel.ts';

/** Terms without repetition, each with its weight. */
export interface TermWeights {
  readonly terms: readonly string[];
  readonly weights: readonly number[];
}

/** Of a document: also how often each term is there. */
export interface DocumentTerms extends TermWeights {
  readonly counts: readonly number[];
}

/** What texts weigh by the statistics of one corpus. */
export interface TermWeighing {
  /** Of each term of a text: tf / (tf + k1 (1 - b + b |d| / avg|d|)). */
  document(text: string): DocumentTerms;
  /**
   * Of each term of a query: idf times how often it is there. A term that stood in no document when the statistics were made counts
   * as one of a single document: documents that came later may have it.
   */
  query(text: string): TermWeights;
  /** The sum over the query's terms of both weights: what BM25 gives. @param query as `query` gives it */
  score(query: TermWeights, text: string): number;
}

/** @source Kamphuis et al., "Which BM25 do you mean?", ECIR 2020 (variant "Lucene (accurate)") */
export function termWeighing(channel: Omit<LexicalChannel, 'lambda' | 'scale'>): TermWeighing {
  const { k1, b, documents: N, averageLength, frequencies } = channel;
  const { terms: termsOf }: Analyzer = analyzer(channel.analyzer);
  const counted = (text: string): { counts: Map<string, number>; length: number } => {
    const counts = new Map<string, number>();
    const terms = termsOf(text);
    for (const term of terms) counts.set(term, (counts.get(term) ?? 0) + 1);
    return { counts, length: terms.length };
  };
  const idf = (term: string): number => {
    const df = Math.max(1, Object.hasOwn(frequencies, term) ? frequencies[term] : 0);
    return Math.log1p((Math.max(N, df) - df + 0.5) / (df + 0.5));
  };
  const saturation = (length: number): number => k1 * (1 - b + (b * length) / (averageLength || 1));
  return {
    document(text) {
      const { counts, length } = counted(text);
      const rest = saturation(length);
      const tfs = [...counts.values()];
      return { terms: [...counts.keys()], weights: tfs.map((tf) => tf / (tf + rest)), counts: tfs };
    },
    query(text) {
      const { counts } = counted(text);
      return { terms: [...counts.keys()], weights: Array.from(counts, ([term, n]) => n * idf(term)) };
    },
    score({ terms, weights }, text) {
      const { counts, length } = counted(text);
      const rest = saturation(length);
      let sum = 0;
      for (const [i, term] of terms.entries()) {
        const tf = counts.get(term);
        if (tf) sum += (weights[i] * tf) / (tf + rest);
      }
      return sum;
    },
  };
}
