/** @file Training on a device: weights and moments stay there, token ids go in, losses come out. */
import { FaultError } from '../common/errors.ts';
import { sizeOf, type Tensor } from '../engine/graph/tensor.ts';
import { ResidentSession } from '../engine/runtime/device-session.ts';
import type { SessionOptions } from '../engine/runtime/session.ts';
import type { StepBatch } from './batches/batches.ts';
import { CHUNK, rowChunks } from './batches/token-chunks.ts';
import type { Learner, LearnerState, LearnerStep } from './host-learner.ts';
import type { AdamWOptions } from './optimizers/adamw.ts';
import { appendAdamW, FIRST, type GraphAdamW, RATES, SECOND, WEIGHTS } from './optimizers/adamw-graph.ts';
import { type DifferentiatedStep, wantedFeeds } from './step/training-step.ts';

const kinds = { weight: WEIGHTS, first: FIRST, second: SECOND } as const;

export class DeviceLearner<B extends { weights: Tensor } = StepBatch> implements Learner<B> {
  readonly parameters: Learner<B>['parameters'];
  updates = 0;
  private last = '';
  private readonly made: DifferentiatedStep<B>;
  private readonly session: ResidentSession;
  private readonly update: GraphAdamW;
  private readonly adamw: AdamWOptions;

  private constructor(made: DifferentiatedStep<B>, session: ResidentSession, update: GraphAdamW, adamw: AdamWOptions) {
    this.made = made;
    this.session = session;
    this.update = update;
    this.parameters = update.stretches;
    this.adamw = adamw;
  }

  /**
   * @param where `provider` is the device
   * @throws InputError where the provider is not there
   */
  static async create<B extends { weights: Tensor }>(
    made: DifferentiatedStep<B>,
    where: SessionOptions = {},
    adamw: AdamWOptions = {},
  ): Promise<DeviceLearner<B>> {
    const { graph, start, gradients } = made;
    const parameters = graph.inputs.flatMap((value) => {
      const tensor = start.get(value.name);
      return tensor && gradients.has(value.name) ? [{ name: value.name, dims: tensor.dims, value }] : [];
    });
    const update = appendAdamW(graph, parameters, gradients, adamw);
    graph.dropUnused();
    graph.sort();
    const session = await ResidentSession.load(graph, update.carried, where);
    const learner = new DeviceLearner(made, session, update, adamw);
    const zeros = (): Tensor<'float32'> => ({
      dtype: 'float32',
      dims: [update.length],
      data: new Float32Array(update.length),
    });
    for (const name of Object.values(kinds)) session.set(name, zeros());
    await learner.put('weight', start);
    return learner;
  }

  async step(batches: readonly B[], first: number, learningRate: number): Promise<LearnerStep> {
    if (batches.length !== 1) throw new Error('a device takes one batch a step');
    const { betas = [0.9, 0.999], weightDecay = 0.01 } = this.adamw;
    const t = this.updates + 1;
    const rates = [learningRate / (1 - betas[0] ** t), Math.sqrt(1 - betas[1] ** t), learningRate * weightDecay];
    const given = this.made.feeds(batches[0], first);
    const feeds = wantedFeeds(this.session.inputs, given, this.chunkFeeds(given), {
      [RATES]: { dtype: 'float32', dims: [3], data: Float32Array.from(rates) },
    });
    const results = await this.session.run(feeds);
    const number = (name: string): number => Number(results[name].data[0]);
    const gradientNorm = number(this.update.norm);
    const loss = number(this.made.total);
    this.refuseStale(`${loss} ${gradientNorm}`, batches[0]);
    if (Number.isFinite(gradientNorm)) this.updates = t;
    return { loss, terms: this.made.terms.map(number), gradientNorm };
  }

  /**
   * A device that has no memory left says so on the terminal alone and goes on with what its buffers held: the loss and norm
   * of the step before, or zeros.
   */
  private refuseStale(figures: string, { weights }: B): void {
    const stale = figures === this.last || figures === '0 0';
    this.last = figures;
    if (stale && weights.data.some((w) => Number(w) > 0))
      throw new FaultError({
        code: 'train.device-stale',
        subject: `the device gave nothing new in step ${this.updates + 1} (loss and gradient norm: ${figures}); it is probably out of memory`,
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
    return this.read('weight', '');
  }

  async setWeights(weights: ReadonlyMap<string, Tensor>): Promise<void> {
    await this.put('weight', weights);
  }

  async state(): Promise<LearnerState> {
    const parts = await Promise.all((['weight', 'first', 'second'] as const).map((k) => this.read(k, `${k}:`)));
    return new Map(parts.flatMap((m) => [...m]));
  }

  async restore(state: LearnerState, updates: number): Promise<void> {
    for (const kind of ['weight', 'first', 'second'] as const) {
      const own = this.update.stretches.map(({ name }) => [name, state.get(`${kind}:${name}`) as Tensor] as const);
      await this.put(kind, new Map(own));
    }
    this.updates = updates;
  }

  /** Nothing but losses leaves the device. */
  async notFinite(): Promise<undefined> {
    return undefined;
  }

  release(): Promise<void> {
    return this.session.release();
  }

  private async read(kind: keyof typeof kinds, prefix: string): Promise<Map<string, Tensor>> {
    const { data } = await this.session.get(kinds[kind]);
    return new Map(
      this.update.stretches.map(({ name, dims, offset }) => [
        `${prefix}${name}`,
        { dtype: 'float32', dims, data: data.slice(offset, offset + sizeOf(dims)) } as Tensor,
      ]),
    );
  }

  private async put(kind: keyof typeof kinds, values: ReadonlyMap<string, Tensor>): Promise<void> {
    const whole = await this.session.get(kinds[kind]);
    for (const { name, offset } of this.update.stretches) {
      const given = values.get(name);
      if (given) whole.data.set(given.data as Float32Array, offset);
    }
    this.session.set(kinds[kind], whole);
  }
}
