/** @file Distils a teacher into a student by the pipeline that the options name, or says what that would take. */
import type { RunControl } from '../common/progress.ts';
import type { Config, ConfigInput } from '../config/config.ts';
import { parseConfig } from '../config/parse.ts';
import { allowTf32 } from '../engine/runtime/cuda.ts';
import type { RunReport } from '../evaluation/runs/run-report.ts';
import { openRun, type RunContext } from '../run/context.ts';
import { withEstimates } from '../run/estimate/estimate.ts';
import type { StagePlan } from '../run/stages/run-log.ts';
import { active } from './active.ts';
import { chain } from './chain.ts';
import { crossToDual } from './cross-to-dual.ts';
import { lateInteraction } from './late-interaction.ts';
import { online } from './online.ts';
import type { Published } from './publish/report-stage.ts';

export type { System } from '../evaluation/runs/run-figures.ts';
export type { RunReport } from '../evaluation/runs/run-report.ts';
export type { StagePlan } from '../run/stages/run-log.ts';

/** Every pipeline, by the name that configs use. */
const pipelines: Record<Config['pipeline'], (run: RunContext) => Promise<Published>> = {
  active,
  chain,
  'cross-to-dual': crossToDual,
  'dual-to-dual': crossToDual,
  'inherit-documents': crossToDual,
  'late-interaction': lateInteraction,
  online,
  'static-queries': crossToDual,
};

/**
 * Distils a teacher into a student: reads data, scores, selects, weighs, trains, saves, evaluates, reports.
 *
 * @param options the same object as the YAML file's
 * @param onPlan is told, before anything is made, what the run will do and about how long each stage takes; over fewer than 1,000
 *   documents it is not called
 * @throws InputError for a mistake in what was given, FaultError for a fault while running
 */
export async function distill(
  options: ConfigInput,
  watch: RunControl = {},
  { onPlan }: { onPlan?: (plan: readonly StagePlan[]) => void } = {},
): Promise<RunReport> {
  const config = parseConfig(options);
  allowTf32(config.train.tf32);
  const pipeline = pipelines[config.pipeline];
  return openRun(config, watch, async (run) => {
    if (onPlan && (await run.data.all.value()).documents.length >= ESTIMATED)
      onPlan(await run.foreseen((walk) => estimated(walk, pipeline)));
    return (await pipeline(run)).report.value();
  });
}

/** Documents from which on a run says beforehand what it will take: with fewer it takes little. */
const ESTIMATED = 1000;

/** The stages of a pipeline with what each would take. */
async function estimated(run: RunContext, pipeline: (run: RunContext) => Promise<unknown>): Promise<StagePlan[]> {
  await pipeline(run);
  run.watch.signal?.throwIfAborted();
  return withEstimates(run.config, await run.data.all.value(), run.log, await run.also.value(), run.watch.signal);
}

/**
 * What a run would do, and why, without doing it: the same walk, in which nothing is made and nothing is written.
 * @param estimate whether models are timed on a few texts of the data, for an estimate of each stage's time and memory
 * @throws InputError as a run
 */
export async function planRun(
  options: ConfigInput,
  watch: RunControl = {},
  { estimate = false }: { estimate?: boolean } = {},
): Promise<StagePlan[]> {
  const config = parseConfig(options);
  const pipeline = pipelines[config.pipeline];
  const walk = async (run: RunContext): Promise<StagePlan[]> => {
    if (estimate) return estimated(run, pipeline);
    await pipeline(run);
    return run.log.stages;
  };
  return openRun(config, watch, walk, true);
}
