/** @file The training loop: batch, one session run, one optimizer step; best weights kept by dev score; state saved now and then. */
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FaultError } from '../common/errors.ts';
import { canonicalJson, hashParts, writeWhole } from '../common/files.ts';
import type { Watch } from '../common/progress.ts';
import { encodeSafetensors, parseSafetensors } from '../engine/graph/safetensors.ts';
import type { Tensor } from '../engine/graph/tensor.ts';
import { GradientSum } from './accumulate.ts';
import { AdamW, type AdamWOptions, type Moments } from './adamw.ts';
import { type BatchOptions, type BatchSource, makeBatch } from './examples.ts';
import { learningRateAt, type Schedule } from './schedule.ts';
import type { Parameter, StepGraph, StepResult } from './step-graph.ts';

export interface TrainOptions extends BatchOptions, AdamWOptions {
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
  beforeStep?(step: number, weights: () => ReadonlyMap<string, Tensor>): Promise<void>;
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
  graph: StepGraph,
  source: BatchSource,
  options: TrainOptions,
  hooks: TrainHooks = {},
): Promise<TrainResult> {
  const optimizer = new AdamW(graph.parameters, options);
  const state = new StateFile(hooks, graph.parameters, optimizer);
  const run = (await state.load()) ?? {
    step: 0,
    bestStep: 0,
    bestScore: undefined,
    log: [],
    evaluations: [],
    skipped: 0,
  };
  let best = await state.loadBest();
  const sums = (options.accumulate ?? 1) > 1 ? new GradientSum(graph.parameters) : undefined;
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
    const score = await hooks.evaluate(snapshot(graph.parameters));
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
    best = copyOf(snapshot(graph.parameters));
    await state.saveBest(best);
  };

  while (run.step < totalSteps) {
    if (hooks.signal?.aborted) {
      await state.save(run);
      hooks.signal.throwIfAborted();
    }
    await hooks.beforeStep?.(run.step, () => snapshot(graph.parameters));
    const started = performance.now();
    const { loss, terms, exampleIds } = await stepGradients(graph, source, run.step, options, sums);
    const learningRate = learningRateAt(run.step, options.schedule);
    const gradientNorm = Number.isFinite(loss) ? optimizer.step(learningRate) : Number.NaN;
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      if (options.onNonFinite !== 'skip') throw notFinite(run.step, loss, terms, graph, exampleIds, source);
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
    weights: best ?? copyOf(snapshot(graph.parameters)),
    bestStep: best ? run.bestStep : run.step,
    bestScore: run.bestScore,
    log: run.log,
    evaluations: run.evaluations,
    skipped: run.skipped,
    stepSeconds: times[Math.floor(times.length / 2)] ?? 0,
  };
}

/** Loss and gradients of a step: of one batch, or the mean over several. */
async function stepGradients(
  graph: StepGraph,
  source: BatchSource,
  step: number,
  options: TrainOptions,
  sums: GradientSum | undefined,
): Promise<StepResult & { exampleIds: number[] }> {
  const batches = sums ? (options.accumulate ?? 1) : 1;
  const whole: StepResult & { exampleIds: number[] } = { loss: 0, terms: [], exampleIds: [] };
  for (let k = step * batches; k < (step + 1) * batches; k++) {
    const batch = makeBatch(source, k, options);
    const { loss, terms } = await graph.run(batch, k);
    sums?.add(1 / batches);
    whole.loss += loss / batches;
    whole.terms = terms.map((t, i) => (whole.terms[i] ?? 0) + t / batches);
    whole.exampleIds.push(...batch.exampleIds);
  }
  sums?.finish();
  return whole;
}

const snapshot = (parameters: readonly Parameter[]): Map<string, Tensor> =>
  new Map(parameters.map((p) => [p.name, { dtype: 'float32', dims: p.dims, data: p.data }]));

const copyOf = (weights: ReadonlyMap<string, Tensor>): Map<string, Tensor> =>
  new Map([...weights].map(([name, t]) => [name, { ...t, data: t.data.slice() } as Tensor]));

/** The mean loss of the last steps, so that the figure on the screen does not jump. */
function smoothed(log: readonly TrainingLogEntry[]): number {
  const recent = log.slice(-20);
  return recent.reduce((s, e) => s + e.loss, 0) / recent.length;
}

function notFinite(
  step: number,
  loss: number,
  terms: readonly number[],
  graph: StepGraph,
  ids: readonly number[],
  source: BatchSource,
): FaultError {
  const bad = graph.parameters.find((p) => p.gradient?.some((g) => !Number.isFinite(g)));
  const term = terms.findIndex((t) => !Number.isFinite(t));
  const where =
    term >= 0
      ? `loss term ${term} is ${terms[term]}`
      : bad
        ? `the gradient of '${bad.name}' is not finite`
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
  private readonly parameters: readonly Parameter[];
  private readonly optimizer: AdamW;

  constructor(hooks: TrainHooks, parameters: readonly Parameter[], optimizer: AdamW) {
    this.hooks = hooks;
    this.parameters = parameters;
    this.optimizer = optimizer;
  }

  private path(name: string): string | undefined {
    return this.hooks.stateFolder && join(this.hooks.stateFolder, name);
  }

  async save(run: Omit<SavedState, 'key' | 'hash'>): Promise<void> {
    const file = this.path(`state-${run.step}.safetensors`);
    const json = this.path('state.json');
    if (!file || !json) return;
    const before = existsSync(json) ? (JSON.parse(await readFile(json, 'utf8')) as SavedState).step : undefined;
    const tensors = new Map<string, Tensor>();
    for (const p of this.parameters) {
      const { first, second } = this.optimizer.moments.get(p.name) as Moments;
      for (const [kind, data] of [
        ['weight', p.data],
        ['first', first],
        ['second', second],
      ] as const)
        tensors.set(`${kind}:${p.name}`, { dtype: 'float32', dims: p.dims, data });
    }
    const bytes = encodeSafetensors(tensors, { updates: String(this.optimizer.steps) });
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
      const tensors = parseSafetensors(bytes);
      for (const p of this.parameters) {
        const { first, second } = this.optimizer.moments.get(p.name) as Moments;
        p.data.set(tensors.get(`weight:${p.name}`)?.data as Float32Array);
        first.set(tensors.get(`first:${p.name}`)?.data as Float32Array);
        second.set(tensors.get(`second:${p.name}`)?.data as Float32Array);
      }
      this.optimizer.steps = saved.step - saved.skipped;
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
