/** @file Size and latency of each model of an evaluation, entered into the table. */
import type { RunControl } from '../../common/progress.ts';
import { dtypeFiles } from '../../serving/encoder/checkpoint.ts';
import type { CostFigures, SystemFigures } from '../report/figures.ts';
import { type CostJob, measureCost } from './model-cost.ts';

export interface CostsOptions {
  /** The student's folder; every model file in it is timed. */
  student: string;
  /** The dtype of rows without a dtype in their name. */
  dtype: string;
  texts: string[];
  maxLength?: number;
  /** Further models. */
  timed: readonly CostJob[];
  /** Mean of the first metric of the evaluated files, by dtype. */
  quality: ReadonlyMap<string, number>;
}

/** Times every model and writes size and latency into its rows. */
export async function measureCosts(
  systems: readonly SystemFigures[],
  { student: folder, dtype: first, texts, maxLength, timed, quality }: CostsOptions,
  watch: RunControl,
): Promise<CostFigures[]> {
  const encoders = (await dtypeFiles(folder, 'all')).map(
    ({ dtype, file }): CostJob => ({ name: `student ${dtype}`, kind: 'encoder', folder, file, texts, maxLength }),
  );
  const jobs = [...encoders, ...timed];
  const cost: CostFigures[] = [];
  for (const [i, job] of jobs.entries()) {
    watch.onProgress?.({ stage: 'cost', done: i, total: jobs.length, unit: 'models' });
    const measured = await measureCost(job, watch.signal);
    cost.push({ ...measured, quality: quality.get(job.name.replace('student ', '')) });
  }
  for (const system of systems) {
    const own = cost.find((c) =>
      system.role === 'teacher'
        ? c.role === 'teacher'
        : system.role === 'student' &&
          c.name === (cost.some(({ name }) => name === system.name) ? system.name : `student ${first}`),
    );
    if (own) Object.assign(system, { bytes: own.bytes, queryMilliseconds: own.p50 });
  }
  return cost;
}

/** The teacher's median time per query as a multiple of the student's. */
export function speedFactor(cost: readonly CostFigures[], dtype: string): number | undefined {
  const slow = cost.find((c) => c.role === 'teacher');
  const quick = cost.find((c) => c.name === `student ${dtype}`);
  return slow && quick && slow.p50 / quick.p50;
}
