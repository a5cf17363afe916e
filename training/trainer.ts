/**
 * @file The training loop: batch, session run, optimizer step; keeps the best weights by dev score and saves state periodically.
 */
import type { RunControl } from '../common/progress.ts';
import type { Tensor } from '../engine/graph/tensor.ts';
import type { Batches, StepBatch } from './batches/batches.ts';
import type { Learner } from './host-learner.ts';
import { learningRateAt, type Schedule } from './learning-rate.ts';
import { notFinite } from './non-finite-step.ts';
import { type KeptArrays, type RunState, StateFolder, type StateKey, type TrainingLogEntry } from './training-state.ts';

export type { TrainingLogEntry } from './training-state.ts';

export interface TrainOptions {
  schedule: Schedule;
  /** Steps between evaluations on the dev split, the first before any step; no evaluation where absent. */
  evaluateEvery?: number;
  /** Steps between saved states. */
  saveEvery?: number;
  /** Batches per step (gradient accumulation); 1 by default. */
  accumulate?: number;
  /** What to do about a non-finite loss or gradient; non-finite weights always stop training. */
  onNonFinite?: 'stop' | 'skip';
  /** Names of the loss terms, for messages. */
  terms?: readonly string[];
}

export interface TrainHooks extends RunControl {
  /**
   * Runs before each step's batch is made, first of all when training resumes from saved state. If it is given, steps are
   * made one by one.
   */
  beforeStep?(step: number, weights: () => Promise<ReadonlyMap<string, Tensor>>): Promise<void>;
  /** Called with the log once it has the first steps, also after resuming later. */
  onFirstSteps?(log: readonly TrainingLogEntry[]): void;
  /** The dev score of the current weights; higher is better. */
  evaluate?(weights: ReadonlyMap<string, Tensor>, step: number): Promise<number>;
  /** Folder of the saved state; nothing is saved where absent. */
  stateFolder?: string;
  /** Key of the state: state with another key is not resumed. */
  key?: StateKey;
  /** Arrays that `beforeStep` changes in place: saved and restored with the state. */
  kept?: KeptArrays;
  /** Name of the work in progress events; `train` by default. */
  stage?: string;
}

export interface TrainResult {
  /** The best weights by dev score, or the last. */
  weights: ReadonlyMap<string, Tensor>;
  bestStep: number;
  bestScore: number | undefined;
  /** One entry per step; beyond 10,000 steps every second entry is dropped, and so on. */
  log: TrainingLogEntry[];
  evaluations: { step: number; score: number }[];
  skipped: number;
  /** Median seconds per step. */
  stepSeconds: number;
}

/**
 * Trains to the end of the schedule, resuming from saved state if there is any. A training that was stopped and resumed ends with
 * the same bytes as an uninterrupted one: every random draw depends only on the step's number, everything else is in the state.
 *
 * @throws FaultError if a loss or gradient is non-finite; the state before that step is on disk
 */
export async function train<B = StepBatch>(
  learner: Learner<B>,
  batches: Batches<B>,
  options: TrainOptions,
  hooks: TrainHooks = {},
): Promise<TrainResult> {
  const { totalSteps } = options.schedule;
  const accumulate = options.accumulate ?? 1;
  const tell = (step: number, more: { note?: string; loss?: number }): void =>
    hooks.onProgress?.({ stage: hooks.stage ?? 'train', done: step, total: totalSteps, unit: 'steps', ...more });
  const state =
    hooks.stateFolder === undefined
      ? undefined
      : new StateFolder(hooks.stateFolder, hooks.key ?? {}, learner, hooks.kept, (note) => tell(0, { note }));
  const found = await state?.load();
  const run: RunState = found?.run ?? {
    step: 0,
    bestStep: 0,
    bestScore: undefined,
    log: [],
    evaluations: [],
    skipped: 0,
  };
  let best: ReadonlyMap<string, Tensor> | undefined = found?.best;
  if (run.step) tell(run.step, { note: `resuming from step ${run.step}` });

  const evaluate = async (measure: NonNullable<TrainHooks['evaluate']>): Promise<void> => {
    const weights = await learner.weights();
    const score = await measure(weights, run.step);
    const better = run.bestScore === undefined || score > run.bestScore;
    if (better) await state?.saveBest(run.step, weights);
    run.evaluations.push({ step: run.step, score });
    tell(run.step, { note: `step ${run.step}: dev score ${score.toFixed(4)}` });
    if (better) [best, run.bestScore, run.bestStep] = [weights, score, run.step];
  };
  // The initial weights are a candidate too: a training that only does harm returns them.
  if (hooks.evaluate && options.evaluateEvery !== undefined && run.step === 0 && !run.evaluations.length)
    await evaluate(hooks.evaluate);
  const due = (every: number | undefined): boolean =>
    run.step > 0 && every !== undefined && (run.step === totalSteps || run.step % every === 0);

  // Steps up to the next one at which something else is due, as many as the learner takes at once.
  const stepsBefore = (step: number): number => {
    const until = [options.evaluateEvery, options.saveEvery].map((every) =>
      every ? every - (step % every) : totalSteps,
    );
    return Math.min(learner.ahead ?? 1, totalSteps - step, ...until);
  };

  let [between, told] = [true, false];
  try {
    for (;;) {
      const measured = run.evaluations.at(-1)?.step === run.step;
      if (hooks.evaluate && due(options.evaluateEvery) && !measured) await evaluate(hooks.evaluate);
      // A training shorter than that is faster to repeat than to save.
      if (due(options.saveEvery) && run.step >= (options.saveEvery ?? 0)) await state?.save(run);
      if (run.step >= totalSteps) break;
      hooks.signal?.throwIfAborted();
      between = false;
      await hooks.beforeStep?.(run.step, () => learner.weights());
      between = true;
      const started = performance.now();
      const from = run.step;
      const count = hooks.beforeStep ? 1 : stepsBefore(from);
      const drawn: B[][] = [];
      const draw = async (k: number): Promise<readonly B[]> => {
        if (drawn[k]) return drawn[k];
        const own: B[] = [];
        for (let i = 0; i < accumulate; i++) own.push(await batches.draw((from + k) * accumulate + i));
        drawn[k] = own;
        return own;
      };
      const rates = Array.from({ length: count }, (_, k) => learningRateAt(from + k, options.schedule));
      const first = from * accumulate;
      const taken = learner.steps
        ? await learner.steps(draw, first, rates)
        : [await learner.step(await draw(0), first, rates[0])];
      const seconds = (performance.now() - started) / 1000 / taken.length;
      for (const [k, { loss, terms, gradientNorm, note }] of taken.entries()) {
        if (note) tell(run.step, { note });
        if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
          const seen = { step: run.step, first: run.step * accumulate, loss, terms, drawn: drawn[k] };
          const error = await notFinite(seen, learner, batches, options.terms);
          if (options.onNonFinite !== 'skip' || error.lasting) {
            await state?.save(run);
            throw error;
          }
          run.skipped++;
          tell(run.step, { note: `step ${run.step + 1} is skipped, number ${run.skipped} so far: ${error.what}` });
        }
        run.step++;
        run.log.push({ step: run.step, loss, terms, gradientNorm, learningRate: rates[k], seconds });
        if (run.log.length > MOST_LOGGED) run.log = run.log.filter((_, i) => i % 2 === 0);
        tell(run.step, { loss: smoothed(run.log) });
      }
      if (!told && run.log.length >= FIRST_STEPS) {
        told = true;
        hooks.onFirstSteps?.(run.log.slice(0, FIRST_STEPS));
      }
    }
  } catch (error) {
    // `beforeStep` may have been interrupted half way: the state saved before it remains valid.
    if (hooks.signal?.aborted && state && run.step > 0 && between) {
      await state.save(run);
      tell(run.step, { note: `stopped, state saved at step ${run.step} of ${totalSteps}` });
    }
    throw error;
  }
  const times = run.log.map((e) => e.seconds).sort((a, b) => a - b);
  return {
    weights: best ?? (await learner.weights()),
    bestStep: best ? run.bestStep : run.step,
    bestScore: run.bestScore,
    log: run.log,
    evaluations: run.evaluations,
    skipped: run.skipped,
    stepSeconds: times[Math.floor(times.length / 2)] ?? 0,
  };
}

/** Maximum number of log entries, even: enough for a curve, and the memory of a long training must not grow. */
const MOST_LOGGED = 10_000;

/** Number of steps after which the start of a training can be judged. */
const FIRST_STEPS = 20;

/** The mean loss of the last steps, for a smooth display. */
function smoothed(log: readonly TrainingLogEntry[]): number {
  const recent = log.slice(-20).filter((e) => Number.isFinite(e.loss));
  return recent.reduce((s, e) => s + e.loss, 0) / recent.length;
}
