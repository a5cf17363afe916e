/** @file Reports in one sentence if a student or a teacher is no better than what its user already had. */
import type { RunControl } from '../../common/progress.ts';
import { type Dataset, isGenerated } from '../../data/dataset.ts';
import type { Teacher } from '../../teachers/teacher.ts';
import { bm25Index } from '../bm25-run.ts';
import type { HybridFit } from '../fit-hybrid.ts';
import type { Run } from '../metrics/evaluate.ts';
import { choiceScore, rerank } from '../systems/retrieve.ts';

/** Values of the deciding metric, by system. */
export interface BeforeFigures {
  /** Split that the values are of: dev, or test where there is none or its queries alone are generated. */
  split: string;
  /** Judged queries of that split. */
  queries: number;
  values: Record<string, number>;
}

/** Name of the report row for the full encoder that a student with fewer layers was made from. */
export const WHOLE_ENCODER = 'encoder as it was';

/** Systems that the user had before the run. */
const had: Readonly<Record<string, string>> = {
  BM25: 'BM25, which needs no model,',
  embedder: 'the embedder itself',
  [WHOLE_ENCODER]: 'the encoder as it was, whole,',
  'student before training': 'the encoder as it was',
};

/** The weight of BM25 beside a student, and the deciding metric of the two together. */
export type HybridFigures = Pick<HybridFit, 'lambda' | 'fused'>;

/** What a verdict says in addition to the values. */
export interface Judged {
  /** Whether the student is a smaller query tower over the embedder's documents, whose purpose is lower cost. */
  compact: boolean;
  /** The student and BM25 together, where the run fitted them on the same split. */
  hybrid?: HybridFigures | undefined;
  /** Names of systems that this result has others for. */
  names?: Readonly<Record<string, string>>;
}

/** The first sentence of a result if something that the user already had ranks better than the student. */
export function verdict(
  { split, queries, values }: BeforeFigures,
  { compact, hybrid, names = {} }: Judged,
): string | undefined {
  const own = values.student;
  const better = Object.keys(had)
    .filter((name) => values[name] > own)
    .sort((a, b) => values[b] - values[a]);
  if (own === undefined || !better.length) return undefined;
  const [best] = better;
  const figures = `nDCG@10 ${values[best].toFixed(4)} compared with ${own.toFixed(4)} on the ${counted(queries)} of ${split}`;
  const remedy =
    best === 'embedder' && compact
      ? `the student is the cheaper one; a tower of more layers, or BM25 combined with it (${hybrid ? `${hybrid.fused.toFixed(4)} there` : 'hybrid: {}'}), comes nearer`
      : best === 'BM25'
        ? bm25Remedy(values.BM25, hybrid)
        : 'use the encoder as it was; or try a lower learning rate, weights chosen on dev (train.evaluateEvery), more labelled queries, a better teacher';
  const name = names[best] ?? had[best];
  return `${name[0].toUpperCase()}${name.slice(1)} ranks better than the student: ${figures}; ${remedy}`;
}

/** What to use where BM25 is better: both together, where they were measured and are. */
function bm25Remedy(alone: number, hybrid: Judged['hybrid']): string {
  if (!hybrid) return 'use BM25, or both together (hybrid: {}, fitted on dev)';
  const both = `both together have ${hybrid.fused.toFixed(4)} there`;
  return hybrid.fused >= alone ? `use BM25 and the student together: ${both}` : `use BM25: ${both}`;
}

const counted = (queries: number): string => (queries === 1 ? 'one query' : `${queries} queries`);

/** nDCG@10 of one set of candidates as each system orders them. */
export interface OrdersOnDev {
  teacher: number;
  encoder?: number;
  bm25?: number;
  /** Number of dev queries. */
  queries: number;
}

/** The same candidates in BM25's order, and in the encoder's where there is one. */
export async function ordersBefore(
  run: Run,
  dataset: Dataset,
  split: string,
  encoder: Pick<Teacher, 'score'> | undefined,
  watch: RunControl,
): Promise<{ encoder?: number; bm25: number }> {
  const index = await bm25Index(dataset.documents, watch);
  const words: Pick<Teacher, 'score'> = {
    async score(pairs) {
      const scores = new Float32Array(pairs.length);
      for (const [i, { query, documentId }] of pairs.entries())
        scores[i] = index.scores(query, Int32Array.of(dataset.documents.indexOf(documentId) as number))[0];
      return scores;
    },
  };
  const order = async (by: Pick<Teacher, 'score'>): Promise<number> =>
    choiceScore(await rerank(dataset, run, by, watch), dataset, split);
  return { bm25: await order(words), ...(encoder && { encoder: await order(encoder) }) };
}

/** The name of a split, and that its queries are generated where they are. */
export const splitName = (dataset: Dataset, split: string): string =>
  isGenerated(dataset, split) ? `${split}, which are generated` : split;

/** The warning about a teacher if something that the user already had ranks the same candidates as well. */
export function teacherVerdict({ teacher, encoder, bm25, queries }: OrdersOnDev, split: string): string | undefined {
  const had: [string, number | undefined][] = [
    ['the encoder as it was', encoder],
    ['BM25', bm25],
  ];
  const [best] = had
    .filter((h): h is [string, number] => h[1] !== undefined && h[1] >= teacher)
    .sort((a, b) => b[1] - a[1]);
  if (!best) return undefined;
  const figures = `nDCG@10 ${teacher.toFixed(4)} compared with ${best[1].toFixed(4)} over the same candidates of ${queries} queries of ${split}`;
  return `The teacher ranks no better than ${best[0]}: ${figures}; judge more queries, or use a cross-encoder that was trained elsewhere; a student of labels and its scores may still be better than both`;
}
