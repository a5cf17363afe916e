/** @file Whether a run made something better than what its user already had, in one sentence. */

/** Values of the deciding metric, by system. */
export interface BeforeFigures {
  /** Split that the values are of: dev, or test where there is no dev. */
  split: string;
  /** Judged queries of that split. */
  queries: number;
  values: Record<string, number>;
}

/** The encoder that a student of fewer layers was cut from, as a row of a report. */
export const WHOLE_ENCODER = 'encoder as it was';

/** Rows that the user had before the run. */
const had: Readonly<Record<string, string>> = {
  BM25: 'BM25, which needs no model,',
  embedder: 'the embedder itself',
  [WHOLE_ENCODER]: 'the encoder as it was, whole,',
  'student before training': 'the encoder as it was',
};

/**
 * The sentence that a result begins with where something that the user had ranks better than the student.
 * @param compact whether the student is a smaller query tower over the embedder's documents, which is made to be cheaper
 */
export function verdict({ split, queries, values }: BeforeFigures, compact: boolean): string | undefined {
  const own = values.student;
  const better = Object.keys(had)
    .filter((name) => values[name] > own)
    .sort((a, b) => values[b] - values[a]);
  if (own === undefined || !better.length) return undefined;
  const [best] = better;
  const figures = `nDCG@10 ${values[best].toFixed(4)} compared with ${own.toFixed(4)} on the ${queries} queries of ${split}`;
  const remedy =
    best === 'embedder' && compact
      ? 'the student is the cheaper one; a tower of more layers, or BM25 combined with it (hybrid: {}), comes nearer'
      : best === 'BM25'
        ? 'use BM25, or both together (hybrid: {})'
        : 'use the encoder as it was; or try a lower learning rate, weights chosen on dev (train.evaluateEvery), more labelled queries, a better teacher';
  return `${had[best][0].toUpperCase()}${had[best].slice(1)} ranks better than the student: ${figures}; ${remedy}`;
}
