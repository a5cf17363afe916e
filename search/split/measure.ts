/** @file How near a split cross-encoder comes to the whole one on lists of documents, and what a pair and a document cost. */
import type { RunControl } from '../../common/progress.ts';
import type { Dataset } from '../../data/dataset.ts';
import { evaluateRun, type Found } from '../../evaluation/metrics/evaluate.ts';
import { floatToHalf, halfToFloat } from '../../math/half.ts';
import { kendallTauB } from '../../math/rank-correlation.ts';
import type { SplitCrossEncoder, SplitStates } from '../../teachers/split/split-cross-encoder.ts';
import type { QueryList } from '../exits/lists.ts';

/** One model on the lists. */
export interface SplitFigures {
  /** nDCG@10 of the lists in its order. */
  ndcg: number;
  /** Mean of Kendall's tau-b to the whole model's order; absent of the whole model. */
  tau?: number;
  /** Milliseconds a pair, documents' states given. */
  milliseconds: number;
  /** KiB of a document's states in float16; absent of the whole model. */
  kilobytes?: number;
}

/** Lists of a split, with the logits of the whole model where they are known. */
export interface MeasuredLists {
  dataset: Dataset;
  lists: readonly QueryList[];
  split: string;
  /** [lists][documents] */
  whole?: readonly Float32Array[];
}

/**
 * Scores of every list and the figures.
 * @param score of a query with its documents, and the seconds that count
 */
export async function measureLists(
  { dataset, lists, split, whole }: MeasuredLists,
  score: (query: string, documents: readonly string[]) => Promise<{ scores: Float32Array; seconds: number }>,
  stage: string,
  watch: RunControl,
): Promise<{ scores: Float32Array[]; figures: SplitFigures }> {
  const run = new Map<string, Found>();
  const all: Float32Array[] = [];
  const taus: number[] = [];
  let [seconds, pairs] = [0, 0];
  for (const [i, { query, documents }] of lists.entries()) {
    watch.signal?.throwIfAborted();
    const found = await score(
      dataset.queries.text(query),
      documents.map((d) => dataset.documents.text(d)),
    );
    all.push(found.scores);
    run.set(dataset.queries.ids[query], { ids: documents.map((d) => dataset.documents.ids[d]), scores: found.scores });
    const tau = whole && kendallTauB(found.scores, whole[i]);
    if (tau !== undefined && Number.isFinite(tau)) taus.push(tau);
    seconds += found.seconds;
    pairs += documents.length;
    watch.onProgress?.({ stage, done: i + 1, total: lists.length, unit: 'queries' });
  }
  const qrels = new Map([...dataset.qrels(split)].filter(([id]) => run.has(id)));
  return {
    scores: all,
    figures: {
      ndcg: evaluateRun(run, qrels, ['ndcg@10']).means['ndcg@10'],
      ...(whole && { tau: taus.reduce((a, b) => a + b, 0) / taus.length }),
      milliseconds: (1000 * seconds) / pairs,
    },
  };
}

/** The whole model: what scores pairs together. */
export const measureWhole = (
  lists: MeasuredLists,
  score: (query: string, documents: readonly string[]) => Promise<Float32Array>,
  watch: RunControl,
) => measureLists(lists, (query, documents) => timed(() => score(query, documents)), 'measure the whole model', watch);

/** A split model with its documents' states stored in float16. */
export async function measureSplit(
  model: SplitCrossEncoder,
  lists: MeasuredLists,
  watch: RunControl,
): Promise<SplitFigures> {
  let [tokens, documents] = [0, 0];
  const { figures } = await measureLists(
    lists,
    async (query, texts) => {
      const states = (await model.documents(texts)).map(stored);
      tokens += states.reduce((n, s) => n + s.count, 0);
      documents += states.length;
      return timed(() => model.score(query, states));
    },
    'measure the split model',
    watch,
  );
  return { ...figures, kilobytes: ((tokens / documents) * model.width * 2) / 1024 };
}

const stored = ({ count, data }: SplitStates): SplitStates => ({
  count,
  data: data.map((x) => halfToFloat(floatToHalf(x))),
});

async function timed(score: () => Promise<Float32Array>): Promise<{ scores: Float32Array; seconds: number }> {
  const started = performance.now();
  const scores = await score();
  return { scores, seconds: (performance.now() - started) / 1000 };
}

/** What is said first where a model that was trained is further from the whole one than before. @returns undefined where it is not */
export function splitVerdict({
  untrained,
  trained,
}: Readonly<Record<'untrained' | 'trained', SplitFigures>>): string | undefined {
  // Equal scores for all documents have no tau: what is not as good is worse.
  const worse =
    trained.tau !== undefined && untrained.tau !== undefined
      ? !(trained.tau >= untrained.tau)
      : !(trained.ndcg >= untrained.ndcg);
  if (!worse) return undefined;
  const says = ({ ndcg, tau }: SplitFigures): string =>
    [`nDCG@10 ${ndcg.toFixed(4)}`, ...(tau === undefined ? [] : [`tau to the whole ${tau.toFixed(3)}`])].join(', ');
  return `The training made the split model worse: ${says(trained)}; cut and not trained: ${says(untrained)}, which is what was written. Try a lower --learning-rate or more --steps.`;
}
