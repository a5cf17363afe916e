/** @file What an evaluation of a saved student is asked, and its report: the figures of its table and the files that they are written to. */
import { writeWhole } from '../common/files.ts';
import type { Dataset } from '../data/dataset.ts';
import type { ColumnOptions } from '../data/files/columns.ts';
import type { Computing } from '../engine/runtime/provider.ts';
import { dropIdenticalIds, isQueryItself, type Run } from '../evaluation/metrics/evaluate.ts';
import { defaultMetrics, parseMetric } from '../evaluation/metrics/metrics.ts';
import { formatRun } from '../evaluation/metrics/run-file.ts';
import { dataFacts } from '../evaluation/report/facts.ts';
import type { Figures } from '../evaluation/report/figures.ts';
import { perQueryFigures, reportedValues } from '../evaluation/report/per-query.ts';
import type { Measured } from '../evaluation/systems/compare-systems.ts';
import type { EvaluationTable } from '../evaluation/systems/evaluation-table.ts';
import type { PromptOptions } from '../models/modules/prompts.ts';

/** What is evaluated on which data, and how. */
export interface EvaluateOptions {
  student: string;
  /** Folder of a cross-encoder that re-ranks candidates, or of a dual-encoder; or a file of scores. */
  teacher?: string;
  /** A dual-encoder whose document embeddings the student searches; the student encodes them itself by default. */
  documents?: string;
  data: string;
  /** What columns of rows hold, where their names do not say it. */
  columns?: ColumnOptions;
  /** Prompts of the student in place of its folder's; `{text}` marks the text's place, an empty string means none. */
  prompts?: PromptOptions;
  /** Prompts of a teacher that is a dual-encoder. */
  teacherPrompts?: PromptOptions;
  split?: string;
  metrics?: readonly string[];
  /** Documents a query that the teacher re-ranks. */
  depth?: number;
  /** What the teacher re-ranks: `student` (what it found), `bm25`, or a run file. */
  candidates?: string;
  /** Files of the checkpoint that are evaluated, the first as the student: names such as fp32, fp16, int8, or all. */
  dtype?: string;
  /** A run file of another system. */
  baseline?: string;
  /** `usearch`: an approximate index is compared with exact search. */
  index?: string;
  /** Whether models are timed; true by default. */
  cost?: boolean;
  /** Queries that the teacher re-ranks while it is timed. */
  costQueries?: number;
  seed?: number;
  /** Resamples of a bootstrap and flips of a test. */
  samples?: number;
  queryTokens?: number;
  documentTokens?: number;
  /** A dense student whose scores are added to those of a sparse one, its weight chosen on dev. */
  with?: string;
  /** Where float32 models compute while quality is measured; the CPU by default, where models are timed in any case. */
  provider?: Computing['provider'];
  cache?: string;
  /** Limit that batches are chosen by, e.g. `4GB`. */
  memory?: string;
  /** Files written: the student's TREC run, the figures, the report. */
  run?: string;
  json?: string;
  html?: string;
}

/** The figures of an evaluation, as `evaluate --json` writes them. */
export interface EvaluateReport extends Figures {
  split: string;
  queries: number;
  /** Student over teacher, a metric: on the same candidates. */
  retention?: Record<string, number>;
  /** Sentences for a person, e.g. `keeps 97.4 % [96.1, 98.6] of the teacher's ndcg@10`. */
  sentences: string[];
}

/** Documents of each query that are searched: as many as the metrics and the re-ranking look at. */
export function reachOf({ metrics = defaultMetrics, depth = 100 }: Pick<EvaluateOptions, 'metrics' | 'depth'>): number {
  const cuts = metrics.map((m) => parseMetric(m).k).filter(Number.isFinite);
  return Math.max(100, depth, ...cuts);
}

/** A run of another system without documents that are the query itself. */
export const withoutQueries = (run: Run, dataset: Dataset): Run => dropIdenticalIds(run, isQueryItself(dataset));

/** The report of a table. @param facts what is said of the student, after the facts of the data */
export function reportOf(table: EvaluationTable, student: Measured, facts: Figures['facts']): EvaluateReport {
  const { dataset, split } = table.options;
  const queries = student.evaluation.queryIds.length;
  const [data, ...documents] = dataFacts(dataset, split);
  return {
    title: `Evaluation on ${dataset.name}`,
    facts: [data, ['queries', `${queries} judged`], ...documents, ...facts],
    notes: table.notes,
    split,
    queries,
    systems: table.systems,
    comparisons: table.comparisons,
    sentences: [],
    perQuery: perQueryFigures(
      student.evaluation.queryIds,
      Object.fromEntries(table.measured.map((m) => [m.name, reportedValues(m.evaluation.perQuery)])),
    ),
  };
}

/** Writes the files that were asked for. @param more what the figures have in addition */
export async function writeEvaluation(
  { run, json, html }: EvaluateOptions,
  report: EvaluateReport,
  student: Measured,
  more: object = {},
): Promise<void> {
  if (run) await writeWhole(run, formatRun(student.run));
  if (json) await writeWhole(json, `${JSON.stringify({ ...report.systems[0].metrics, ...report, ...more })}\n`);
  if (html) {
    const { renderHtml } = await import('../evaluation/report/html.ts');
    await writeWhole(html, renderHtml(report));
  }
}
