/** @file The systems of a run on further data sets: the student, what it began from, BM25 and the hybrid. */
import { layersOf, trainedEncoder } from '../../config/student.ts';
import { judgedQueries } from '../../data/dataset.ts';
import { bootstrapMean, type Interval } from '../../math/resampling.ts';
import type { AlsoSet } from '../../run/also.ts';
import { embed } from '../../teachers/teacher.ts';
import { bm25Index, bm25Run } from '../bm25-run.ts';
import type { HybridFit } from '../fit-hybrid.ts';
import { evaluateRun, type Run } from '../metrics/evaluate.ts';
import { hybridRun } from '../systems/hybrid.ts';
import { retrieve, type Searcher, teacherSearcher } from '../systems/retrieve.ts';
import { withKeptVectors, withStudent } from './kept-vectors.ts';
import type { Measuring } from './measure-run.ts';
import { HYBRID } from './run-figures.ts';
import type { Saved } from './saved.ts';
import { WHOLE_ENCODER } from './verdict.ts';

/** What was measured on one further data set. */
export interface AlsoFigures {
  name: string;
  split: string;
  queries: number;
  /** Mean nDCG@10 of each system, by its name in the run's table, with the 95 % bootstrap interval over queries. */
  systems: Record<string, Interval>;
}

const METRIC = 'ndcg@10';

/** @param fit the weight of BM25 that the run's own dev split chose; it is not fitted again on another set */
export async function measureAlso(
  job: Measuring,
  sets: readonly AlsoSet[],
  saved: Saved,
  fit: HybridFit | undefined,
): Promise<AlsoFigures[]> {
  if (!sets.length) return [];
  const { config, watch } = job;
  const { prompts } = config.student;
  const frozen = config.student.towers === 'query';
  const folder = frozen ? undefined : trainedEncoder(config.student);
  const depth = Math.max(100, config.evaluate.depth);
  const all = sets.map(({ name, dataset, split }): AlsoFigures => {
    return { name, split, queries: judgedQueries(dataset, split).length, systems: {} };
  });
  const add = (i: number, system: string, run: Run): void => {
    const { dataset, split } = sets[i];
    all[i].systems[system] = bootstrapMean(evaluateRun(run, dataset.qrels(split), [METRIC]).perQuery[METRIC]);
  };
  const find = async (i: number, system: string, searcher: Searcher) => {
    const { dataset, split } = sets[i];
    const found = await retrieve(searcher, { dataset, split, depth }, watch);
    add(i, system, found.run);
    return found.vectors;
  };
  const student = async (own: Searcher, only: readonly number[] = [...sets.keys()]): Promise<void> => {
    for (const i of only) {
      const { dataset } = sets[i];
      const vectors = await find(i, 'student', own);
      if (!config.hybrid || !fit || fit.lambda <= 0) continue;
      const { k1, b } = config.hybrid;
      const index = await bm25Index(dataset.documents, { k1, b, ...watch });
      add(i, HYBRID, await hybridRun({ dataset, vectors }, index, fit, depth, watch));
    }
  };
  await job.time('evaluate also', async () => {
    if (config.evaluate.bm25)
      for (const [i, { dataset, split }] of sets.entries()) add(i, 'BM25', await bm25Run(dataset, split, depth, watch));
    if (folder && config.evaluate.before)
      await withKeptVectors(job, folder, prompts, async (searcher) => {
        const name = layersOf(config.student) ? WHOLE_ENCODER : 'student before training';
        for (const i of sets.keys()) await find(i, name, searcher);
      });
    await withStudent(job, saved, async (over) => {
      if (!frozen) return student(over());
      // The documents of a query tower are its embedder's, which is measured on the same vectors.
      const searcher = teacherSearcher(embed(job.embedder?.teacher));
      for (const i of sets.keys()) {
        const { dimensions, documents: data } = await find(i, 'embedder', searcher);
        await student(over({ dimensions, data }), [i]);
      }
    });
  });
  return all;
}

/** The column of a further set in the table of systems. */
export const alsoColumn = ({ name }: AlsoFigures): string => `${METRIC} on ${name}`;

/** The figures with their intervals, a sentence a set. */
export const describeAlso = ({ name, split, queries, systems }: AlsoFigures): string =>
  `${METRIC} on ${name} (split ${split}, ${queries} queries; 95 % intervals): ${Object.entries(systems)
    .map(([s, v]) => `${s} ${v.value.toFixed(4)} (${v.low.toFixed(4)} to ${v.high.toFixed(4)})`)
    .join(', ')}`;

/** The mean over several sets; undefined of a single one, or of a system that is not measured on all. */
export function alsoMean(sets: readonly AlsoFigures[], system: string): number | undefined {
  const values = sets.flatMap(({ systems }) => systems[system]?.value ?? []);
  return sets.length > 1 && values.length === sets.length
    ? values.reduce((a, b) => a + b, 0) / values.length
    : undefined;
}

/** The column of that mean. */
export const alsoMeanColumn = (sets: readonly AlsoFigures[]): string => `${METRIC}, mean of ${sets.length} other sets`;

/** What a student loses in other domains: a sentence; undefined where the encoder as it was is not measured. */
export function describeLoss(sets: readonly AlsoFigures[]): string | undefined {
  const mean = (system: string): number | undefined =>
    sets.length === 1 ? sets[0].systems[system]?.value : alsoMean(sets, system);
  const start = [WHOLE_ENCODER, 'student before training', 'embedder'].find((name) => mean(name) !== undefined);
  const [was, is] = [start === undefined ? undefined : mean(start), mean('student')];
  if (was === undefined || is === undefined) return undefined;
  const over = sets.length === 1 ? sets[0].name : `${sets.length} other sets`;
  return `In other domains (mean ${METRIC} over ${over}) the student has ${is.toFixed(4)}, ${was > is ? `${(was - is).toFixed(4)} less` : `${(is - was).toFixed(4)} more`} than '${start}' (${was.toFixed(4)})`;
}
