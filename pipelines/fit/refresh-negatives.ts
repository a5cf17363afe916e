/** @file Negatives found again with the student of the moment, while it trains. */

import { textsAt } from '../../data/dataset.ts';
import { search } from '../../retrieval/exact-search.ts';
import { refreshesAt, refreshNegatives } from '../../selection/index.ts';
import type { Weights } from '../../students/student.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import { scoreCandidates } from '../prepare/candidates.ts';
import { encoderOf } from '../prepare/student-scores.ts';
import type { Lesson } from '../prepare/types.ts';
import type { Job } from '../run/context.ts';

/** Hits beside those that negatives are drawn from, for known positives to be left out. */
const SPARE = 8;

/**
 * What runs before each step to keep the examples' candidates up to date: known positives stay first, negatives are drawn from
 * what the student finds now, and the teacher scores them where it is asked for scores.
 *
 * The training state carries what was found, and where training goes on from between two refreshes nothing is searched anew.
 *
 * @source Xiong et al., ICLR 2021 (arXiv 2007.00808)
 */
export function refresher(
  job: Job,
  lesson: Lesson,
): ((step: number, weights: () => Promise<Weights>) => Promise<void>) | undefined {
  const { refresh, count } = job.config.candidates;
  if (!refresh) return undefined;
  const { examples, dataset } = lesson;
  let current = -1;
  return async (step, weights) => {
    if (step < refresh.warmup) return;
    const last = refreshesAt(step, refresh) ? step : step - ((step - refresh.warmup) % refresh.every);
    if (last === current) return;
    current = last;
    // The first step after a resume: what was found at the last refresh came with the state.
    if (last < step) return;
    const found = await job.stage('refresh', async () => hitsOf(job, lesson, await weights(), refresh.depth + SPARE));
    const negatives = refreshNegatives(
      {
        hits: found,
        relevant: (i) => new Set([...examples.relevant(examples.queries[i]), ...positiveOf(examples, i)]),
        previous: negativesOf(examples),
      },
      { count: count - 1, depth: refresh.depth, keep: refresh.keep, seed: job.config.seed + step },
    );
    const lists = { offsets: [0], documents: [] as number[] };
    for (let i = 0; i < examples.queries.length; i++) {
      const own = negatives.documents.subarray(negatives.offsets[i], negatives.offsets[i + 1]);
      lists.documents.push(...positiveOf(examples, i), ...own);
      lists.offsets.push(lists.documents.length);
    }
    const unscored = {
      queries: examples.queries,
      offsets: Int32Array.from(lists.offsets),
      documents: Int32Array.from(lists.documents),
      scores: new Float32Array(lists.documents.length).fill(Number.NaN),
    };
    const asks = job.needs.has('teacher');
    const scored = asks ? await scoreCandidates(unscored, dataset, job.teacher, job.watch) : unscored;
    const scores = asks ? Array.from(scored.scores) : lists.documents.map(() => 0);
    take(examples, { ...lists, scores });
    const share = Number.isNaN(negatives.overlap) ? '' : `, ${(100 * negatives.overlap).toFixed(0)} % as before`;
    job.note(`step ${step}: negatives found again by the student${share}`);
  };
}

/** The labelled document of an example, where it has one. */
const positiveOf = (examples: Examples, i: number): number[] =>
  examples.labelled[i] ? [examples.documents[examples.offsets[i]]] : [];

function negativesOf(examples: Examples): { offsets: number[]; documents: number[] } {
  const offsets = [0];
  const documents: number[] = [];
  for (let i = 0; i < examples.queries.length; i++) {
    documents.push(...examples.documents.subarray(examples.offsets[i] + examples.labelled[i], examples.offsets[i + 1]));
    offsets.push(documents.length);
  }
  return { offsets, documents };
}

function take(examples: Examples, lists: { offsets: number[]; documents: number[]; scores: number[] }): void {
  examples.offsets = Int32Array.from(lists.offsets);
  examples.documents = Int32Array.from(lists.documents);
  examples.scores = Float32Array.from(lists.scores);
}

async function hitsOf(job: Job, { student, dataset, examples, targets }: Lesson, weights: Weights, depth: number) {
  const { queryTokens, documentTokens } = job.config.student;
  const encoder = await encoderOf(job, student, weights);
  try {
    const watch = { ...job.watch, onProgress: undefined };
    const queries = await encoder.encode(textsAt(dataset, Array.from(examples.queries)), {
      ...watch,
      maxLength: queryTokens,
    });
    const frozen = job.frozenDocuments ? targets.documents?.data : undefined;
    const documents = frozen ?? (await encoder.encode(dataset.documents, { ...watch, maxLength: documentTokens }));
    return await search(queries, documents, encoder.dimensions, depth, watch);
  } finally {
    await encoder.dispose();
  }
}
