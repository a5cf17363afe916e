/** @file The systems of a run on further data sets: the student, what it began from, BM25 and the hybrid. */
import { layersOf, trainedEncoder } from '../../config/student.ts';
import { judgedQueries } from '../../data/dataset.ts';
import { computeOn } from '../../engine/runtime/provider.ts';
import { bm25Index, bm25Run } from '../../evaluation/bm25-run.ts';
import type { HybridFit } from '../../evaluation/fit-hybrid.ts';
import { evaluateRun, type Run } from '../../evaluation/metrics/evaluate.ts';
import { hybridRun } from '../../evaluation/systems/hybrid.ts';
import { HYBRID, type Measuring } from '../../evaluation/systems/measure-run.ts';
import { encoderSearcher, retrieve, type Searcher, teacherSearcher } from '../../evaluation/systems/retrieve.ts';
import type { Saved } from '../../evaluation/systems/saved.ts';
import { WHOLE_ENCODER } from '../../evaluation/systems/verdict.ts';
import { bootstrapMean, type Interval } from '../../math/resampling.ts';
import { Encoder } from '../../models/encoder.ts';
import { embed } from '../../teachers/teacher.ts';
import type { AlsoSet } from '../run/also.ts';

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
  const { config, watch } = job;
  const frozen = config.student.towers === 'query';
  const embedder = frozen ? embed(job.embedder?.uncached ?? job.embedder?.teacher) : undefined;
  const folder = frozen ? undefined : trainedEncoder(config.student);
  const session = await computeOn(config.train);
  const depth = Math.max(100, config.evaluate.depth);
  const all: AlsoFigures[] = [];
  for (const { name, dataset, split } of sets) {
    const systems: AlsoFigures['systems'] = {};
    const add = (system: string, run: Run): void => {
      systems[system] = bootstrapMean(evaluateRun(run, dataset.qrels(split), [METRIC]).perQuery[METRIC]);
    };
    const find = async (system: string, searcher: Searcher) => {
      const found = await retrieve(searcher, { dataset, split, depth }, watch);
      add(system, found.run);
      return found.vectors;
    };
    await job.time(`evaluate also ${name}`, async () => {
      if (config.evaluate.bm25) add('BM25', await bm25Run(dataset, split, depth, watch));
      if (folder && config.evaluate.before) {
        const encoder = await Encoder.load(folder, { session, comparable: true, prompts: config.student.prompts });
        await find(
          layersOf(config.student) ? WHOLE_ENCODER : 'student before training',
          encoderSearcher(encoder, config.student),
        );
        await encoder.dispose();
      }
      // The documents of a query tower are its embedder's, which is measured on the same vectors.
      let documents: Searcher['documents'] | undefined;
      if (embedder) {
        const { dimensions, documents: data } = await find('embedder', teacherSearcher(embedder));
        documents = { dimensions, data };
      }
      const encoder = await Encoder.load(saved.folder, { session, comparable: true });
      const vectors = await find('student', encoderSearcher(encoder, config.student, documents));
      await encoder.dispose();
      if (config.hybrid && fit && fit.lambda > 0) {
        const { k1, b } = config.hybrid;
        const index = await bm25Index(dataset.documents, { k1, b, ...watch });
        add(HYBRID, await hybridRun({ dataset, vectors }, index, fit, depth, watch));
      }
    });
    all.push({ name, split, queries: judgedQueries(dataset, split).length, systems });
  }
  return all;
}

/** The column of a further set in the table of systems. */
export const alsoColumn = ({ name }: AlsoFigures): string => `${METRIC} on ${name}`;

/** The figures with their intervals, a sentence a set. */
export const describeAlso = ({ name, split, queries, systems }: AlsoFigures): string =>
  `${METRIC} on ${name} (split ${split}, ${queries} queries; 95 % intervals): ${Object.entries(systems)
    .map(([s, v]) => `${s} ${v.value.toFixed(4)} (${v.low.toFixed(4)} to ${v.high.toFixed(4)})`)
    .join(', ')}`;
