/** @file The table of an evaluation: systems measured on the same queries, and comparisons between them. */
import type { RunControl } from '../../common/progress.ts';
import type { Dataset, Qrels } from '../../data/dataset.ts';
import { evaluateRun, type Run } from '../metrics/evaluate.ts';
import type { Comparison, SystemFigures } from '../report/figures.ts';
import { compare, type Measured } from './compare-systems.ts';

export interface EvaluationTableOptions {
  dataset: Dataset;
  split: string;
  metrics: readonly string[];
  /** Options of bootstrap and sign-flip test. */
  seed: number;
  samples?: number;
  watch: RunControl;
}

export class EvaluationTable {
  /** Rows, in the order in which they were measured. */
  readonly systems: SystemFigures[] = [];
  readonly measured: Measured[] = [];
  readonly comparisons: Comparison[] = [];
  /** Notes for the reader. */
  readonly notes: string[] = [];
  readonly qrels: Qrels;
  readonly options: EvaluationTableOptions;

  constructor(options: EvaluationTableOptions) {
    this.options = options;
    this.qrels = options.dataset.qrels(options.split);
  }

  /** Measures a run without adding a row. */
  measure(name: string, run: Run): Measured {
    return { name, run, evaluation: evaluateRun(run, this.qrels, this.options.metrics) };
  }

  add(role: SystemFigures['role'], name: string, run: Run): Measured {
    const measured = this.measure(name, run);
    this.systems.push({ name, role, metrics: measured.evaluation.means });
    this.measured.push(measured);
    return measured;
  }

  /** @param on e.g. `the same candidates` @param place position in the list; the first comparison makes the report's headline */
  compare(a: Measured, b: Measured, on: string, place: 'first' | 'last' = 'last'): void {
    const { seed, samples } = this.options;
    const comparison = compare(a, b, on, { seed, samples });
    if (place === 'first') this.comparisons.unshift(comparison);
    else this.comparisons.push(comparison);
  }

  note(text: string): void {
    this.notes.push(text);
    this.options.watch.onProgress?.({ stage: 'evaluate', done: 0, unit: 'systems', note: text });
  }
}
