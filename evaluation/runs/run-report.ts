/** @file The report of a run: what report.json and its page hold of the systems measured, the training and the run. */
import type { ExportReport } from '../../checkpoints/export-checkpoint.ts';
import type { Config } from '../../config/config.ts';
import type { Dataset } from '../../data/dataset.ts';
import { type RunLog, stagesMade } from '../../run/stages/run-log.ts';
import type { TrainResult } from '../../training/trainer.ts';
import type { HybridFit } from '../fit-hybrid.ts';
import { roleOf } from '../report/facts.ts';
import type { Figures, SystemFigures } from '../report/figures.ts';
import { CHOICE_METRIC } from '../systems/retrieve.ts';
import { type AlsoFigures, alsoColumn, alsoMean, alsoMeanColumn, describeAlso, describeLoss } from './measure-also.ts';
import type { Exported } from './measure-export.ts';
import type { PartFigures } from './measure-run.ts';
import { HYBRID, type RunOptions, runFigures, type System } from './run-figures.ts';
import type { RunTable } from './run-table.ts';
import type { Saved } from './saved.ts';
import { type BeforeFigures, type HybridFigures, verdict } from './verdict.ts';

/** What a run ends with. */
export interface RunReport {
  pipeline: Config['pipeline'];
  checkpoint: string;
  report: string;
  /** Means of the metrics on the test split, a row a system. */
  systems: System[];
  /** The first metric by the student's prefixes, where it was trained for them: `matryoshka.dimensions`, widest first. */
  matryoshka?: Figures['matryoshka'];
  /** Said first: something that the user had before ranks better than the student. */
  verdict?: string;
  /** The student and what the user had, by nDCG@10 on the split that chooses. */
  before: BeforeFigures;
  /** nDCG@10 on the data sets of `evaluate.also`. */
  also?: AlsoFigures[];
  /** nDCG@10 on the old and the new data, before and after, where a student went on learning. */
  continued?: PartFigures;
  /** The weight of BM25 in the hybrid score and its gain on dev, where a hybrid was asked for. */
  hybrid?: HybridFit;
  /** Student over teacher (over the embedder where there is no teacher), a metric; absent where the teacher is no better than the encoder as it was. */
  retention?: Record<string, number>;
  student: { parameters: number; bytes: number; queryMilliseconds: number };
  training: {
    steps: number;
    secondsAStep: number;
    loss: number;
    bestStep: number;
    /** Share of the trained weights in a mean with those before training, where dev chose one. */
    average?: number;
    /** Mean squared distance of general spans to the encoder as it was, over the first steps and the last ones (`student.keep`). */
    keep?: { first: number; last: number };
    /** Steps left out because their loss or gradient was not finite. */
    skipped: number;
  };
  /** What is probably wrong, with figures. */
  warnings: string[];
  /** The compact files, where the config asks for some, and the names of their rows among the systems. */
  export?: ExportReport & { rows: string[] };
  /** Queries that the teacher scored, where there was a budget. */
  asked?: number;
  /** Whether each stage's work was done in this run, or an earlier one's was used. */
  stages: Record<string, 'made' | 'reused'>;
  /** Seconds by stage. */
  seconds: Record<string, number>;
  config: Config;
  /** The folders of the students that a chain made, by their runs. */
  members?: Record<string, string>;
}

/** What report.json holds. */
export type WrittenReport = Omit<RunReport, 'systems'> &
  Omit<Figures, 'training'> &
  Pick<TrainResult, 'log' | 'evaluations'> & { systems: SystemFigures[] };

/** A training as its report tells it. */
export interface Training extends Omit<TrainResult, 'weights'> {
  steps: number;
  average?: number;
}

/** What a report tells in addition to figures. */
export interface Reported {
  /** Options that the figures depend on, and all of them, which are written down. */
  options: RunOptions;
  config: Config;
  dataset: Dataset;
  saved: Saved;
  trained: Training;
  log: RunLog;
  /** The file that is written. */
  report: string;
}

/** The report of measured systems. @param compared the system that the student is a share of; undefined where the share means nothing */
export function runReport(
  { options, config, dataset, saved, trained, log, report }: Reported,
  { systems, runs, before }: Pick<RunTable, 'systems' | 'runs' | 'before'>,
  compared: System | undefined,
): WrittenReport {
  const { warnings } = log;
  const own = systems.find((s) => s.name === 'student') as System;
  return {
    ...runFigures({ config: options, dataset, warnings }, systems, runs, curves(trained)),
    pipeline: options.pipeline,
    checkpoint: saved.folder,
    report,
    before,
    retention:
      compared && Object.fromEntries(Object.entries(own.metrics).map(([m, value]) => [m, value / compared.metrics[m]])),
    student: {
      parameters: saved.parameters,
      bytes: saved.bytes,
      queryMilliseconds: own.queryMilliseconds ?? Number.NaN,
    },
    training: {
      steps: trained.steps,
      secondsAStep: trained.stepSeconds,
      loss: trained.log.at(-1)?.loss ?? Number.NaN,
      bestStep: trained.bestStep,
      ...(trained.average !== undefined && { average: trained.average }),
      skipped: trained.skipped,
    },
    warnings: [...warnings.values()],
    stages: stagesMade(log),
    seconds: log.seconds,
    config,
    log: trained.log,
    evaluations: trained.evaluations,
  };
}

/** What the curves of a training are drawn from. */
const curves = ({ log, evaluations }: Pick<TrainResult, 'log' | 'evaluations'>): Figures['training'] => ({
  log: log.filter((e) => Number.isFinite(e.loss)),
  evaluations,
});

/** What the page and the card are drawn from. */
export const figuresOf = ({ log, evaluations, ...rest }: WrittenReport): Figures => ({
  ...rest,
  training: curves({ log, evaluations }),
});

/** Whether the student's share of its teacher means something: the teacher is better than what the student began from. */
export const leads = (other: System, begun: System | undefined, metric: string): boolean =>
  !(begun && other.metrics[metric] <= begun.metrics[metric]);

/** Says of a teacher that does not lead that it does not. */
export function addNoLead(report: WrittenReport, other: System, begun: System, metric: string): void {
  report.notes.unshift(
    `The teacher (${metric} ${other.metrics[metric].toFixed(4)}) is no better than ${begun.name} (${begun.metrics[metric].toFixed(4)}): the share of it that the student keeps means nothing`,
  );
}

/** The student and BM25 together on the split whose figures decide. */
export function together({ before, hybrid, systems, config }: RunReport): HybridFigures | undefined {
  if (!hybrid || before.split === config.data.splits.dev) return hybrid;
  const fused = systems.find((s) => s.name === HYBRID)?.metrics[CHOICE_METRIC];
  return fused === undefined ? undefined : { lambda: hybrid.lambda, fused };
}

/** Puts what ranks better than the student before all other notes. */
export function addVerdict(report: WrittenReport, compact: boolean): void {
  report.verdict = verdict(report.before, { compact, hybrid: together(report) });
  if (report.verdict) report.notes.unshift(report.verdict);
}

/** Adds the figures of a student that was kept near the encoder as it was. */
export function addKept(report: WrittenReport): void {
  const kept = keptDistances(report);
  report.training.keep = kept;
  report.notes.push(
    `Mean squared distance of general spans to the encoder as it was (student.keep): ${kept.first.toFixed(4)} over the first steps, ${kept.last.toFixed(4)} over the last`,
  );
}

/** The term of `student.keep` comes last; means of up to so many steps. */
function keptDistances({ log }: Pick<TrainResult, 'log'>): { first: number; last: number } {
  const terms = log.map(({ terms }) => terms.at(-1) as number).filter(Number.isFinite);
  const mean = (values: readonly number[]): number => values.reduce((s, v) => s + v, 0) / values.length;
  return { first: mean(terms.slice(0, KEPT_STEPS)), last: mean(terms.slice(-KEPT_STEPS)) };
}
const KEPT_STEPS = 20;

/** Adds the figures of a continued student. */
export function addParts(report: WrittenReport, parts: PartFigures): void {
  report.continued = parts;
  report.notes.unshift(describeParts(parts));
}

/** The figures of a continued student in one sentence. */
const describeParts = (parts: PartFigures): string =>
  `nDCG@10 before and after going on: ${Object.entries(parts)
    .map(
      ([split, { queries, values }]) =>
        `${split} ${values['student before training'].toFixed(4)} to ${values.student.toFixed(4)} (${queries} queries)`,
    )
    .join(', ')}`;

/** Adds columns and sentences of further data sets. What is kept of the teacher stays that of the run's own data. */
export function addAlso(report: WrittenReport, also: AlsoFigures[]): void {
  if (also.length) report.also = also;
  for (const set of also)
    for (const s of report.systems)
      if (set.systems[s.name]) s.metrics = { ...s.metrics, [alsoColumn(set)]: set.systems[s.name].value };
  for (const s of report.systems) {
    const mean = alsoMean(also, s.name);
    if (mean !== undefined) s.metrics = { ...s.metrics, [alsoMeanColumn(also)]: mean };
  }
  const loss = describeLoss(also);
  if (loss) report.notes.push(loss);
  for (const set of also) report.notes.push(describeAlso(set));
}

/** A report with the rows of these compact files in place of those that it has. */
export function withExport(written: WrittenReport, exported: Exported | undefined): WrittenReport {
  const { export: old, ...rest } = written;
  const warning = (text: string): string => `Warning: ${text}`;
  const without = new Set(old?.rows);
  const unsaid = new Set(old?.warnings.map(warning));
  const { queryIds = [], systems = {}, ...more } = rest.perQuery ?? {};
  return {
    ...rest,
    systems: [
      ...rest.systems.filter((s) => !without.has(s.name)),
      ...(exported?.systems ?? []).map((s) => ({ ...s, role: roleOf(s.name) })),
    ],
    notes: [...rest.notes.filter((n) => !unsaid.has(n)), ...(exported?.report.warnings ?? []).map(warning)],
    perQuery: {
      queryIds,
      ...more,
      systems: {
        ...Object.fromEntries(Object.entries(systems).filter(([name]) => !without.has(name))),
        ...exported?.perQuery,
      },
    },
    ...(exported && { export: { ...exported.report, rows: exported.systems.map((s) => s.name) } }),
  };
}
