/** @file Distils a teacher into a student by the pipeline that the options name. */
import type { Watch } from '../common/progress.ts';
import { active } from './active.ts';
import type { Config, ConfigInput } from './config/config.ts';
import { parseConfig } from './config/parse.ts';
import { crossToDual } from './cross-to-dual.ts';
import { online } from './online.ts';
import type { RunReport } from './publish/run-report.ts';
import { type Job, withJob } from './run/context.ts';
import { staticQueries } from './static-queries.ts';

export type { RunReport, System } from './publish/run-report.ts';

/** Every pipeline, by the name that configs use. */
const pipelines: Record<Config['pipeline'], (job: Job) => Promise<RunReport>> = {
  active,
  'cross-to-dual': crossToDual,
  'dual-to-dual': crossToDual,
  'inherit-documents': crossToDual,
  online,
  'static-queries': staticQueries,
};

/**
 * Distils a teacher into a student: reads data, scores, selects, weighs, trains, saves, evaluates, reports.
 *
 * @param options the same object as the YAML file's
 * @throws InputError for a mistake in what was given, FaultError for a fault while running
 */
export async function distill(options: ConfigInput, watch: Watch = {}): Promise<RunReport> {
  const config = parseConfig(options);
  return withJob(config, watch, pipelines[config.pipeline]);
}
