/** @file Figures of a run's report in addition to its table: intervals, fidelity, differences and training curves. */

import type { Options } from '../../config/options.ts';
import { describeStudent } from '../../config/student.ts';
import type { Dataset } from '../../data/dataset.ts';
import { evaluateRun, type Run } from '../metrics/evaluate.ts';
import { fidelity } from '../metrics/fidelity.ts';
import { dataFacts, roleOf } from '../report/facts.ts';
import type { Figures, SystemFigures } from '../report/figures.ts';
import { perQueryFigures, reportedValues, sampleNotes } from '../report/per-query.ts';
import { compare, differences, type Measured } from '../systems/compare-systems.ts';

/** One row of the table that a run ends with. */
export interface System {
  name: string;
  /** Means over the test split. */
  metrics: Record<string, number>;
  /** Of its model file. */
  bytes?: number;
  /** Median from a query's text to its vector; for a cross-encoder, to the scores of its candidates. */
  queryMilliseconds?: number;
}

/** The student with BM25, as reports call it. */
export const HYBRID = 'student + BM25';

/** Options that the figures of a run depend on. */
export type RunOptions = Options<'data.splits' | 'evaluate' | 'losses' | 'pipeline' | 'seed' | 'student' | 'teacher'>;

/**
 * @param systems rows of the table, with what each found under its name in `runs`
 * @param training the log of the run
 */
export function runFigures(
  {
    config,
    dataset,
    warnings,
  }: {
    config: RunOptions;
    dataset: Dataset;
    warnings: ReadonlyMap<string, string>;
  },
  systems: readonly Omit<SystemFigures, 'role'>[],
  runs: ReadonlyMap<string, Run>,
  training: Figures['training'],
): Figures {
  const { metrics, depth } = config.evaluate;
  const qrels = dataset.qrels(config.data.splits.test);
  // All values of all queries are held of the two that are compared; of the others what a report keeps.
  const compared = ['student', runs.has('teacher') ? 'teacher' : 'embedder'];
  const measured = new Map<string, Measured>();
  const values: Record<string, Record<string, number[]>> = {};
  for (const [name, run] of runs) {
    const evaluation = evaluateRun(run, qrels, metrics);
    values[name] = reportedValues(evaluation.perQuery);
    if (compared.includes(name)) measured.set(name, { name, run, evaluation });
  }
  const student = measured.get('student');
  const teacher = measured.get(compared[1]);
  const queryIds = student?.evaluation.queryIds ?? [];
  const on =
    config.teacher?.kind === 'scores'
      ? "the teacher's lists and full retrieval"
      : `full retrieval, the teacher re-ranking ${depth}`;
  return {
    title: `Distilled on ${dataset.name}`,
    facts: [
      ['pipeline', config.pipeline],
      ['student', describeStudent(config.student)],
      ['losses', config.losses.map((l) => `${l.weight} x ${l.kind}`).join(' + ')],
      ...dataFacts(dataset, config.data.splits.test),
    ],
    notes: [...[...warnings.values()].map((w) => `Warning: ${w}`), ...sampleNotes(queryIds.length)],
    systems: systems.map((s) => ({ ...s, role: roleOf(s.name) })),
    comparisons:
      student && teacher
        ? [compare(student, teacher, teacher.name === 'teacher' ? on : 'full retrieval', { seed: config.seed })]
        : undefined,
    fidelity: student && teacher && fidelity(student.run, teacher.run),
    differences: student && teacher && differences(student, teacher, dataset, qrels, metrics[0]),
    training,
    perQuery: perQueryFigures(queryIds, values),
  };
}
