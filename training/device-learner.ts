/** @file Trains on a device: weights and moments stay there; only token ids and losses are transferred. */
import { FaultError } from '../common/errors.ts';
import type { Forms } from '../engine/autodiff/rule.ts';
import { sizeOf, type Tensor } from '../engine/graph/tensor.ts';
import { rulesOutTf32 } from '../engine/runtime/cuda.ts';
import { ResidentSession } from '../engine/runtime/device-session.ts';
import { LoopSession, type StateSession } from '../engine/runtime/loop-session.ts';
import { onProcessor, type SessionOptions } from '../engine/runtime/session.ts';
import { roundsToTf32 } from '../engine/runtime/tf32.ts';
import type { StepBatch } from './batches/batches.ts';
import { CHUNK, rowChunks } from './batches/token-chunks.ts';
import {
  type Draw,
  HostLearner,
  type Learner,
  type LearnerState,
  type LearnerStep,
  numbersOfState,
  numbersToState,
} from './host-learner.ts';
import { afterFinite, afterOverflow, lossScaleOf, smallScale } from './loss-scale.ts';
import { WEIGHT_DECAY } from './optimizers/adamw.ts';
import { type OptimizerOptions, optimizers } from './optimizers/index.ts';
import { checkProducts, type Numbers, type Optimizer, servedWeights } from './optimizers/optimizer.ts';
import { singleRun } from './step/single-run.ts';
import { type DifferentiatedStep, formOf, formsOn, LOSS_SCALE, tableNames, wantedFeeds } from './step/training-step.ts';
import { appendOptimizer, FACTORS, GOING, type GraphOptimizer, SUM, WEIGHTS } from './updates/optimizer-graph.ts';

export class DeviceLearner<B extends { weights: Tensor } = StepBatch> implements Learner<B> {
  readonly parameters: Learner<B>['parameters'];
  updates = 0;
  private last = '';
  private readonly made: DifferentiatedStep<B>;
  private readonly session: StateSession;
  private readonly rule: Optimizer;
  private readonly update: GraphOptimizer;
  private readonly options: OptimizerOptions;
  private numbers: Numbers = {};
  /** Steps to make in one call. */
  ahead = 1;
  private readonly loops: boolean;
  /** Notes of the next step. */
  private readonly toSay: string[] = [];

  private constructor(
    made: DifferentiatedStep<B>,
    session: StateSession,
    rule: Optimizer,
    update: GraphOptimizer,
    options: OptimizerOptions,
  ) {
    this.made = made;
    this.session = session;
    this.rule = rule;
    this.update = update;
    this.parameters = update.slices;
    this.options = options;
    this.loops = session instanceof LoopSession;
  }

  /**
   * @param where `provider` is the device
   * @param accumulates whether a step may be given several batches
   * @param loops whether several steps are one call, with the state here between two calls: CUDA, whose tensors
   *   onnxruntime-node does not keep on the device
   * @throws InputError where the provider is not available
   */
  static async create<B extends { weights: Tensor }>(
    made: DifferentiatedStep<B>,
    where: SessionOptions = {},
    options: OptimizerOptions = {},
    { accumulates = false, loops = where.provider === 'cuda' }: { accumulates?: boolean; loops?: boolean } = {},
  ): Promise<DeviceLearner<B>> {
    const { graph, start, gradients } = made;
    const tables = tableNames(graph);
    const parameters = graph.inputs.flatMap((value) => {
      const { name } = value;
      const tensor = start.get(name);
      if (!tensor || !gradients.has(name)) return [];
      const own = made.products?.get(name);
      const multiplied = own && { product: formOf(own), multiplied: own };
      return [{ name, dims: tensor.dims, table: tables.has(name), value, ...multiplied }];
    });
    const rule = optimizers[options.optimizer ?? 'adamw'](options);
    checkProducts(rule, parameters, accumulates);
    const update = appendOptimizer(graph, rule, parameters, gradients, options, {
      accumulates,
      scaled: made.scaled,
      stops: !loops,
      ...(where.provider === 'webgpu' && { mostParts: SPLIT_ON_WEBGPU }),
    });
    graph.dropUnused();
    graph.sort();
    const constant = new Set([...start.keys(), 'dropout_table']);
    const session = loops
      ? await LoopSession.load(graph, update.carried, { ...where, constant, goesOn: update.norm })
      : await ResidentSession.load(graph, update.carried, where);
    const learner = new DeviceLearner(made, session, rule, update, options);
    if (where.provider === 'cuda' && rulesOutTf32() && (await roundsToTf32(where))) learner.toSay.push(ROUNDED);
    if (accumulates)
      session.set(SUM, { dtype: 'float32', dims: [update.length], data: new Float32Array(update.length) });
    for (const { input, length } of [{ input: WEIGHTS, length: update.length }, ...update.state])
      session.set(input, { dtype: 'float32', dims: [length], data: new Float32Array(length) });
    await learner.setWeights(start);
    return learner;
  }

  async step(batches: readonly B[], first: number, learningRate: number): Promise<LearnerStep> {
    return (await this.steps(async () => batches, first, [learningRate]))[0];
  }

  async steps(draw: Draw<B>, first: number, learningRates: readonly number[]): Promise<LearnerStep[]> {
    const parts = (await draw(0)).length;
    if (parts > 1 && !this.update.factors.includes('carry')) throw new Error('made to take one batch a step');
    const made: LearnerStep[] = [];
    const notes: string[] = [];
    let whole: Numbers | undefined;
    while (made.length < learningRates.length) {
      const at = made.length;
      const more = await this.attempt((k) => draw(at + k), first + at * parts, learningRates.slice(at));
      for (const step of more) made.push(step);
      const { loss, gradientNorm } = made[made.length - 1];
      if (made.length > at + 1 || Number.isFinite(gradientNorm)) whole = undefined;
      // All of them, or those before a draw that failed.
      if (Number.isFinite(gradientNorm)) break;
      // Where the loss is a number and its gradient is not, the scale may be too large: the same step again with half of it.
      const smaller = this.made.scaled && Number.isFinite(loss) ? afterOverflow(this.numbers) : undefined;
      if (!smaller) {
        // No matter of scale.
        this.numbers = whole ?? this.numbers;
        notes.length = 0;
        break;
      }
      whole ??= this.numbers;
      made.pop();
      this.numbers = smaller;
      this.last = '';
      const note = smallScale(smaller);
      if (note !== undefined) notes.push(note);
    }
    const said = [...this.toSay.splice(0), ...notes];
    if (said.length) made[made.length - 1].note = said.join('; ');
    return made;
  }

  /** The steps of one call, which end with the first whose gradient is not finite. */
  private async attempt(draw: Draw<B>, first: number, learningRates: readonly number[]): Promise<LearnerStep[]> {
    const { weightDecay = WEIGHT_DECAY } = this.options;
    const drawn: (readonly B[])[] = [];
    // The rule's numbers after each step, as if each succeeded: what follows one that does not changes nothing.
    const numbers: Numbers[] = [];
    const { made, rule, updates } = this;
    const feedsOf = this.feedsOf.bind(this);
    let before = this.numbers;
    async function* feeds(): AsyncGenerator<Record<string, Tensor>> {
      for (const [k, rate] of learningRates.entries()) {
        let batches: readonly B[];
        try {
          batches = await draw(k);
        } catch (fault) {
          if (!k) throw fault;
          // The steps before it change the state in any case: the call ends with them, the next begins with this draw.
          return;
        }
        const own = made.scaled ? afterFinite(before) : { ...before };
        const lossScale = made.scaled ? lossScaleOf(before) : 1;
        const factors = {
          ...rule.factors(updates + k + 1, rate, own),
          keep: 1 - rate * weightDecay,
          decay: weightDecay,
          share: 1 / batches.length / lossScale,
        };
        drawn.push(batches);
        numbers.push(own);
        before = own;
        for (const [i, batch] of batches.entries()) {
          const place = { carry: Number(i > 0), apply: Number(i === batches.length - 1) };
          yield feedsOf(batch, first + k * batches.length + i, { ...factors, ...place }, lossScale);
        }
      }
    }
    if (!this.loops) this.session.set(GOING, { dtype: 'float32', dims: [1], data: Float32Array.of(1) });
    const started = performance.now();
    const results = await this.session.run(feeds());
    const parts = drawn[0].length;
    this.ahead = stepsAhead(((performance.now() - started) * parts) / results.length);
    const steps: LearnerStep[] = [];
    for (let k = 0; k * parts < results.length; k++) {
      const step = this.stepOf(results.slice(k * parts, (k + 1) * parts), drawn[k]);
      steps.push(step);
      if (!Number.isFinite(step.gradientNorm)) break;
      [this.updates, this.numbers] = [this.updates + 1, numbers[k]];
    }
    return steps;
  }

  /** Means over the batches of a step; where one of them is not finite, the runs may have ended with it. */
  private stepOf(results: readonly Record<string, Tensor>[], batches: readonly B[]): LearnerStep {
    const step: LearnerStep = { loss: 0, terms: this.made.terms.map(() => 0), gradientNorm: Number.NaN };
    for (const [i, result] of results.entries()) {
      const number = (name: string): number => Number(result[name].data[0]);
      const [loss, norm] = [number(this.made.total), number(this.update.norm)];
      // Two batches of bad numbers, one after the other, give NaN twice.
      if (Number.isFinite(norm)) this.refuseStale(`${loss} ${norm}`, batches[i]);
      step.loss += loss / batches.length;
      step.terms = step.terms.map((t, j) => t + number(this.made.terms[j]) / batches.length);
      step.gradientNorm = norm;
      if (!Number.isFinite(norm)) return step;
    }
    return step;
  }

  private feedsOf(batch: B, step: number, factors: Numbers, lossScale: number): Record<string, Tensor> {
    const { factors: names } = this.update;
    const given = this.made.feeds(batch, step);
    const chunks = this.chunkFeeds(given);
    return wantedFeeds(this.session.inputs, given, Object.fromEntries(this.made.start), chunks, {
      [LOSS_SCALE]: { dtype: 'float32', dims: [1], data: Float32Array.of(lossScale) },
      [FACTORS]: { dtype: 'float32', dims: [names.length], data: Float32Array.from(names, (name) => factors[name]) },
    });
  }

  /**
   * A device out of memory reports that on the terminal only and continues with old buffers: the previous step's loss and norm,
   * or zeros.
   */
  private refuseStale(figures: string, { weights }: B): void {
    const stale = figures === this.last || figures === '0 0';
    this.last = figures;
    if (stale && weights.data.some((w) => Number(w) > 0))
      throw new FaultError({
        code: 'train.device-stale',
        subject: `the device returned no new values in step ${this.updates + 1} (loss and gradient norm: ${figures}); it is probably out of memory`,
        remedy:
          "use fewer queries, candidates or tokens a step, or 'train.provider: cpu', and run the same command again",
      });
  }

  private chunkFeeds(given: Record<string, Tensor>): Record<string, Tensor> {
    const feeds: Record<string, Tensor> = {};
    for (const { ids, places, tokens } of this.update.tables) {
      const found = rowChunks(given[ids].data as BigInt64Array);
      feeds[places] = { dtype: 'int64', dims: [found.chunks, CHUNK], data: found.places };
      feeds[tokens] = { dtype: 'int64', dims: [found.chunks], data: found.tokens };
    }
    return feeds;
  }

  async weights(): Promise<Map<string, Tensor>> {
    const trained = await this.read(WEIGHTS, 0);
    const vector = this.update.state.find((v) => v.name === this.rule.served?.state);
    const state = vector && (await this.read(vector.input, vector.from));
    return new Map(
      [...trained].map(([name, t]) => [
        name,
        { ...t, data: servedWeights(this.rule, t.data, state?.get(name)?.data) } as Tensor,
      ]),
    );
  }

  async setWeights(weights: ReadonlyMap<string, Tensor>): Promise<void> {
    await this.put(WEIGHTS, 0, weights);
    for (const { input, from, start } of this.update.state)
      if (start === 'weights') await this.put(input, from, weights);
  }

  async state(): Promise<LearnerState> {
    const all = [{ name: 'weight', input: WEIGHTS, from: 0 }, ...this.update.state];
    const parts = await Promise.all(
      all.map(async ({ name, input, from }) =>
        [...(await this.read(input, from))].map(([p, tensor]) => [`${name}:${p}`, tensor] as const),
      ),
    );
    return new Map([...parts.flat(), ...numbersToState(this.numbers)]);
  }

  async restore(state: LearnerState, updates: number): Promise<void> {
    for (const { name, input, from } of [{ name: 'weight', input: WEIGHTS, from: 0 }, ...this.update.state])
      await this.put(
        input,
        from,
        new Map(this.within(input).map((p) => [p.name, state.get(`${name}:${p.name}`) as Tensor])),
      );
    this.numbers = numbersOfState(state);
    this.updates = updates;
  }

  /** Only losses leave the device. */
  async notFinite(): Promise<undefined> {
    return undefined;
  }

  release(): Promise<void> {
    return this.session.release();
  }

  /** The parameters that are part of a vector. */
  private within(input: string): GraphOptimizer['slices'] {
    const vector = this.update.state.find((v) => v.input === input) ?? { from: 0, length: this.update.length };
    return this.update.slices.filter(({ offset }) => offset >= vector.from && offset < vector.from + vector.length);
  }

  private async read(input: string, from: number): Promise<Map<string, Tensor<'float32'>>> {
    const { data } = await this.session.get(input);
    return new Map(
      this.within(input).map(({ name, dims, offset }) => [
        name,
        { dtype: 'float32', dims, data: data.slice(offset - from, offset - from + sizeOf(dims)) },
      ]),
    );
  }

  private async put(input: string, from: number, values: ReadonlyMap<string, Tensor>): Promise<void> {
    const whole = await this.session.get(input);
    for (const { name, offset } of this.within(input)) {
      const given = values.get(name);
      if (given) whole.data.set(given.data as Float32Array, offset - from);
    }
    this.session.set(input, whole);
  }
}

/** That float32 is not what the card multiplies in. */
const ROUNDED =
  'products of float32 matrices are rounded to TF32 on this card, although train.tf32 is off: set NVIDIA_TF32_OVERRIDE=0 in the environment before the command starts';

/** A kernel has eight buffers wherever WebGPU runs: what is split, and seven parts. */
const SPLIT_ON_WEBGPU = 7;

/** Seconds that one call of several steps takes at most, so that progress shows and a stop is heard. */
const CALL_SECONDS = 5;
/** More steps a call win little: the state's way over the bus, 0.3 s for 23 million weights, is then a tenth of small steps. */
const MOST_AHEAD = 256;

/** Steps of one call. @param milliseconds of a step in the last one, the state's way included */
const stepsAhead = (milliseconds: number): number =>
  Math.max(1, Math.min(MOST_AHEAD, Math.round((1000 * CALL_SECONDS) / milliseconds)));

/** The learner of a step that is one graph, where it computes. @param make the step in the forms that are fast there */
export const learnerOn = async <B extends { weights: Tensor }>(
  make: (forms: Forms) => Promise<DifferentiatedStep<B>>,
  where: SessionOptions,
  optimizer: OptimizerOptions,
): Promise<Learner<B>> =>
  onProcessor(where)
    ? new HostLearner(await singleRun(await make('cpu'), where), optimizer)
    : DeviceLearner.create(await make(formsOn(where)), where, optimizer);
