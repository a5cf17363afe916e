/** @file The systems of a run as they are measured: a row each, and what the user had before on the split that chooses. */
import type { Reporting } from '../../common/progress.ts';
import type { Options } from '../../config/options.ts';
import { type Dataset, isGenerated, judgedQueries } from '../../data/dataset.ts';
import type { Teacher } from '../../teachers/teacher.ts';
import { bm25Run, bm25Search } from '../bm25-run.ts';
import type { Run } from '../metrics/evaluate.ts';
import { scoresAsRun } from '../systems/reference-systems.ts';
import { choiceScore, means, rerank, type Split } from '../systems/retrieve.ts';
import type { System } from './run-figures.ts';
import type { BeforeFigures } from './verdict.ts';

/** Documents a query that the deciding metric looks at. */
export const CHOICE_DEPTH = 100;

/** What the table reads of a run. */
export interface RunTableJob extends Reporting {
  config: Options<'data.splits' | 'evaluate' | 'teacher'>;
  dataset: Dataset;
}

export class RunTable {
  /** Rows, in the order in which they were measured. */
  readonly systems: System[] = [];
  /** What each found on the test split. */
  readonly runs = new Map<string, Run>();
  /**
   * Systems by the metric that decides, and the split that it is of: dev, or test where there is no dev, or where the queries of dev
   * are generated and those of test are not.
   */
  readonly before: BeforeFigures;
  /** The test split, as deep as it is searched. */
  readonly searched: Split;
  /** The dev split, where there is one besides the test split. */
  readonly dev: string | undefined;
  private readonly job: RunTableJob;

  constructor(job: RunTableJob) {
    const { dataset, config } = job;
    const { test, dev } = config.data.splits;
    this.dev = dev !== null && dev !== test && dataset.splits.includes(dev) ? dev : undefined;
    const { dev: own = test } = this;
    const split = isGenerated(dataset, own) && !isGenerated(dataset, test) ? test : own;
    this.job = job;
    this.searched = { dataset, split: test, depth: Math.max(100, config.evaluate.depth) };
    this.before = { split, queries: judgedQueries(dataset, split).length, values: {} };
  }

  /** The split of the figures that decide, or undefined where it is the test split itself. */
  get chooses(): string | undefined {
    return this.before.split === this.searched.split ? undefined : this.before.split;
  }

  add(name: string, run: Run, more: Partial<System> = {}): void {
    const { dataset, config } = this.job;
    this.runs.set(name, run);
    this.systems.push({ name, metrics: means(run, dataset, this.searched.split, config.evaluate.metrics), ...more });
  }

  /** Measures a run of the split that chooses. */
  decide(name: string, run: Run): void {
    this.before.values[name] = choiceScore(run, this.job.dataset, this.before.split);
  }

  row(name: string): System | undefined {
    return this.systems.find((s) => s.name === name);
  }

  /** BM25's row, where it is asked for. */
  async addBm25({ timed }: { timed: boolean }): Promise<void> {
    const { dataset, config, watch, time } = this.job;
    if (!config.evaluate.bm25) return;
    await time('evaluate bm25', async () => {
      const { split, depth } = this.searched;
      // Builds the index.
      if (timed) await bm25Search(dataset, judgedQueries(dataset, split).slice(0, 1), 1, watch);
      const started = performance.now();
      const run = await bm25Run(dataset, split, depth, watch);
      this.add('BM25', run, timed ? { queryMilliseconds: (performance.now() - started) / run.size } : {});
      this.decide('BM25', this.chooses ? await bm25Run(dataset, this.chooses, CHOICE_DEPTH, watch) : run);
    });
  }

  /**
   * The teacher's row, where it is asked for: scores that were given for the test split, or its order of what the student found.
   * @param model undefined where it does not score
   * @param more what else is measured of a model
   */
  async addTeacher(
    model: Pick<Teacher, 'score'> | undefined,
    top: Run,
    more?: () => Promise<Partial<System>>,
  ): Promise<void> {
    const { dataset, config, watch, time } = this.job;
    if (!config.evaluate.teacher) return;
    await time('evaluate teacher', async () => {
      if (config.teacher?.kind === 'scores') {
        const given = config.teacher.files.test;
        if (given) this.add('teacher', await scoresAsRun(given, dataset));
      } else if (model) this.add('teacher', await rerank(dataset, top, model, watch), await more?.());
    });
  }
}
