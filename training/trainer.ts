/** @file The training loop: batch, one session run, one optimizer step; best weights kept by dev score; state saved now and then. */
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FaultError } from '../common/errors.ts';
import { canonicalJson, hashParts, writeWhole } from '../common/files.ts';
import type { Watch } from '../common/progress.ts';
import { encodeSafetensors, parseSafetensors } from '../engine/graph/safetensors.ts';
import type { Tensor } from '../engine/graph/tensor.ts';
import { type BatchOptions, type BatchSource, makeBatch } from './examples.ts';
import type { Learner } from './learner.ts';
import { learningRateAt, type Schedule } from './schedule.ts';

export interface TrainOptions extends BatchOptions {
  schedule: Schedule;
  /** Steps between two evaluations on the dev split; none where absent. */
  evaluateEvery?: number;
  /** Steps between two saved states. */
  saveEvery?: number;
  /** Batches of `queries` queries whose gradients make one step together; 1 by default. */
  accumulate?: number;
  /** What to do where a loss or gradient is not finite. */
  onNonFinite?: 'stop' | 'skip';
}

export interface TrainHooks extends Watch {
  /** Runs before each step's batch is made, first of all where training goes on from saved state. */
  beforeStep?(step: number, weights: () => Promise<ReadonlyMap<string, Tensor>>): Promise<void>;
  /** The dev score of the weights as they are; higher is better. */
  evaluate?(weights: ReadonlyMap<string, Tensor>): Promise<number>;
  /** Where state is kept; nothing is kept where absent. */
  stateFolder?: string;
  /** What the state belongs to: state of another key is not resumed. */
  key?: string;
}

export interface TrainingLogEntry {
  step: number;
  loss: number;
  terms: number[];
  gradientNorm: number;
  learningRate: number;
  seconds: number;
}

export interface TrainResult {
  /** The best weights by dev score, or the last. */
  weights: ReadonlyMap<string, Tensor>;
  bestStep: number;
  bestScore: number | undefined;
  log: TrainingLogEntry[];
  evaluations: { step: number; score: number }[];
  skipped: number;
  /** Median seconds a step. */
  stepSeconds: number;
}

interface SavedState {
  key: string;
  step: number;
  bestStep: number;
  bestScore: number | undefined;
  log: TrainingLogEntry[];
  evaluations: { step: number; score: number }[];
  skipped: number;
  hash: string;
}

/**
 * Trains to the schedule's end, going on from saved state where there is some.
 * @throws FaultError where a loss or gradient is not finite; the last good state is on disk
 */
export async function train(
  learner: Learner,
  source: BatchSource,
  options: TrainOptions,
  hooks: TrainHooks = {},
): Promise<TrainResult> {
  const state = new StateFile(hooks, learner);
  const run = (await state.load()) ?? {
    step: 0,
    bestStep: 0,
    bestScore: undefined,
    log: [],
    evaluations: [],
    skipped: 0,
  };
  let best = await state.loadBest();
  const batches = options.accumulate ?? 1;
  const { totalSteps } = options.schedule;
  if (run.step)
    hooks.onProgress?.({
      stage: 'train',
      done: run.step,
      total: totalSteps,
      unit: 'steps',
      note: `going on from step ${run.step}`,
    });

  const evaluate = async (): Promise<void> => {
    if (!hooks.evaluate) return;
    const weights = await learner.weights();
    const score = await hooks.evaluate(weights);
    run.evaluations.push({ step: run.step, score });
    hooks.onProgress?.({
      stage: 'train',
      done: run.step,
      total: totalSteps,
      unit: 'steps',
      note: `step ${run.step}: dev score ${score.toFixed(4)}`,
    });
    if (run.bestScore !== undefined && score <= run.bestScore) return;
    [run.bestScore, run.bestStep] = [score, run.step];
    best = weights;
    await state.saveBest(best);
  };

  while (run.step < totalSteps) {
    if (hooks.signal?.aborted) {
      await state.save(run);
      hooks.signal.throwIfAborted();
    }
    await hooks.beforeStep?.(run.step, () => learner.weights());
    const started = performance.now();
    const drawn = Array.from({ length: batches }, (_, k) => makeBatch(source, run.step * batches + k, options));
    const learningRate = learningRateAt(run.step, options.schedule);
    const { loss, terms, gradientNorm } = await learner.step(drawn, run.step * batches, learningRate);
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      const ids = drawn.flatMap((b) => b.exampleIds);
      if (options.onNonFinite !== 'skip') throw notFinite(run.step, loss, terms, learner, ids, source);
      run.skipped++;
    }
    run.step++;
    run.log.push({
      step: run.step,
      loss,
      terms,
      gradientNorm,
      learningRate,
      seconds: (performance.now() - started) / 1000,
    });
    hooks.onProgress?.({ stage: 'train', done: run.step, total: totalSteps, unit: 'steps', loss: smoothed(run.log) });
    const last = run.step === totalSteps;
    if (options.evaluateEvery && (last || run.step % options.evaluateEvery === 0)) await evaluate();
    if (!last && options.saveEvery && run.step % options.saveEvery === 0) await state.save(run);
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

/** The mean loss of the last steps, so that the figure on the screen does not jump. */
function smoothed(log: readonly TrainingLogEntry[]): number {
  const recent = log.slice(-20);
  return recent.reduce((s, e) => s + e.loss, 0) / recent.length;
}

function notFinite(
  step: number,
  loss: number,
  terms: readonly number[],
  learner: Learner,
  ids: readonly number[],
  source: BatchSource,
): FaultError {
  const bad = learner.notFinite();
  const term = terms.findIndex((t) => !Number.isFinite(t));
  const where =
    term >= 0
      ? `loss term ${term} is ${terms[term]}`
      : bad
        ? `the gradient of '${bad}' is not finite`
        : `the loss is ${loss}`;
  const queries = ids.slice(0, 8).map((e) => source.examples.queries[e]);
  return new FaultError({
    code: 'train.not-finite',
    subject: `training stopped at step ${step + 1}: ${where} (queries at positions ${queries.join(', ')}${ids.length > 8 ? ', ...' : ''})`,
    remedy: 'lower train.learningRate or set train.onNonFinite to skip; the last good state is kept',
  });
}

/** Training state on disk: arrays as safetensors, the rest as JSON that is written last and names the arrays' hash. */
class StateFile {
  private readonly hooks: TrainHooks;
  private readonly learner: Learner;

  constructor(hooks: TrainHooks, learner: Learner) {
    this.hooks = hooks;
    this.learner = learner;
  }

  private path(name: string): string | undefined {
    return this.hooks.stateFolder && join(this.hooks.stateFolder, name);
  }

  async save(run: Omit<SavedState, 'key' | 'hash'>): Promise<void> {
    const file = this.path(`state-${run.step}.safetensors`);
    const json = this.path('state.json');
    if (!file || !json) return;
    const before = existsSync(json) ? (JSON.parse(await readFile(json, 'utf8')) as SavedState).step : undefined;
    const bytes = encodeSafetensors(await this.learner.state(), { updates: String(this.learner.updates) });
    await writeWhole(file, bytes);
    await writeWhole(json, canonicalJson({ ...run, key: this.hooks.key ?? '', hash: hashParts(bytes) }));
    if (before !== undefined && before !== run.step)
      await rm(this.path(`state-${before}.safetensors`) as string, { force: true });
  }

  /** State of this very training, if it is there and whole. */
  async load(): Promise<Omit<SavedState, 'key' | 'hash'> | undefined> {
    const json = this.path('state.json');
    if (!json || !existsSync(json)) return undefined;
    try {
      const saved: SavedState = JSON.parse(await readFile(json, 'utf8'));
      if (saved.key !== (this.hooks.key ?? '')) return undefined;
      const bytes = await readFile(this.path(`state-${saved.step}.safetensors`) as string);
      if (hashParts(bytes) !== saved.hash) throw new Error('its checksum does not hold');
      await this.learner.restore(parseSafetensors(bytes), saved.step - saved.skipped);
      return saved;
    } catch (error) {
      this.hooks.onProgress?.({
        stage: 'train',
        done: 0,
        unit: 'steps',
        note: `the saved state is not whole (${(error as Error).message}), training begins anew`,
      });
      return undefined;
    }
  }

  async saveBest(weights: ReadonlyMap<string, Tensor>): Promise<void> {
    const file = this.path('best.safetensors');
    if (file) await writeWhole(file, encodeSafetensors(weights, { key: this.hooks.key ?? '' }));
  }

  async loadBest(): Promise<Map<string, Tensor> | undefined> {
    const file = this.path('best.safetensors');
    if (!file || !existsSync(file) || !existsSync(this.path('state.json') as string)) return undefined;
    return parseSafetensors(await readFile(file), file);
  }
}
