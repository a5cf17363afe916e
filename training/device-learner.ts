/** @file Training on a device: weights and moments stay there, token ids go in, losses come out. */
import { FaultError } from '../common/errors.ts';
import { sizeOf, type Tensor } from '../engine/graph/tensor.ts';
import { ResidentSession } from '../engine/runtime/resident.ts';
import type { AdamWOptions } from './adamw.ts';
import { dropoutTable } from './dropout.ts';
import { encoderGraph } from './encoder-graph.ts';
import { appendAdamW, FIRST, type GraphAdamW, RATES, SECOND, WEIGHTS } from './graph-adamw.ts';
import type { Learner, LearnerState, LearnerStep } from './learner.ts';
import { lossGraph } from './loss-graph.ts';
import { wantedFeeds } from './plan.ts';
import { assemble, groupFeeds, tidy } from './plan-whole.ts';
import { CHUNK, rowChunks } from './row-chunks.ts';
import { packStep, type StepBatch, type StepGraphOptions } from './step-graph.ts';

/** Each group is a few hundred dispatches more; a device pads cheaper than it is told what to do. */
const DEVICE_GROUPS = 2;

const kinds = { weight: WEIGHTS, first: FIRST, second: SECOND } as const;

export class DeviceLearner implements Learner {
  readonly parameters: Learner['parameters'];
  updates = 0;
  private last = '';
  private readonly session: ResidentSession;
  private readonly update: GraphAdamW;
  private readonly names: { total: string; terms: readonly string[] };
  private readonly options: Omit<StepGraphOptions, 'encoder'>;
  private readonly adamw: AdamWOptions;
  private readonly sites: number;
  private readonly table: Tensor | undefined;

  private constructor(
    session: ResidentSession,
    update: GraphAdamW,
    names: { total: string; terms: readonly string[] },
    options: Omit<StepGraphOptions, 'encoder'>,
    adamw: AdamWOptions,
    sites: number,
  ) {
    this.session = session;
    this.update = update;
    this.parameters = update.stretches;
    this.names = names;
    this.options = options;
    this.adamw = adamw;
    this.sites = sites;
    this.table = options.dropout ? dropoutTable(options.dropout, options.seed ?? 0) : undefined;
  }

  /**
   * @param options `session.provider` says where; GradCache is not to be had here
   * @throws InputError where an operator has no gradient rule or the provider is not there
   */
  static async create(options: StepGraphOptions, adamw: AdamWOptions = {}): Promise<DeviceLearner> {
    const { encoder: _, ...rest } = { ...options, groups: options.groups ?? DEVICE_GROUPS };
    const encoder = await encoderGraph(options);
    const losses = await lossGraph(options, encoder.width, encoder.graph.opset);
    const built = assemble(encoder, losses, rest.groups);
    const start = new Map(encoder.weights.map((w) => [w.name, w.tensor]));
    if (losses.projection) start.set('projection', losses.projection.tensor);
    const parameters = built.graph.inputs.flatMap((value) => {
      const tensor = start.get(value.name);
      return tensor && built.gradients.has(value.name) ? [{ name: value.name, dims: tensor.dims, value }] : [];
    });
    const update = appendAdamW(built.graph, parameters, built.gradients, adamw);
    tidy(built.graph);
    built.graph.sort();
    const session = await ResidentSession.load(built.graph, update.carried, options.session);
    const learner = new DeviceLearner(session, update, built, rest, adamw, encoder.dropout?.sites ?? 0);
    const zeros = (): Tensor<'float32'> => ({
      dtype: 'float32',
      dims: [update.length],
      data: new Float32Array(update.length),
    });
    for (const name of Object.values(kinds)) session.set(name, zeros());
    await learner.put('weight', start);
    return learner;
  }

  async step(batches: readonly StepBatch[], first: number, learningRate: number): Promise<LearnerStep> {
    if (batches.length !== 1) throw new Error('a device takes one batch a step');
    const { betas = [0.9, 0.999], weightDecay = 0.01 } = this.adamw;
    const t = this.updates + 1;
    const rates = [learningRate / (1 - betas[0] ** t), Math.sqrt(1 - betas[1] ** t), learningRate * weightDecay];
    const packed = packStep(batches[0], this.options, this.table, this.sites, first);
    const texts = groupFeeds(packed);
    const feeds = wantedFeeds(this.session.inputs, packed.losses, texts, this.chunkFeeds(texts), {
      [RATES]: { dtype: 'float32', dims: [3], data: Float32Array.from(rates) },
    });
    const results = await this.session.run(feeds);
    const number = (name: string): number => Number(results[name].data[0]);
    const gradientNorm = number(this.update.norm);
    const loss = number(this.names.total);
    this.refuseStale(`${loss} ${gradientNorm}`, batches[0]);
    if (Number.isFinite(gradientNorm)) this.updates = t;
    return { loss, terms: this.names.terms.map(number), gradientNorm };
  }

  /**
   * A device that has no memory left says so on the terminal alone and goes on with what its buffers held: the loss and norm
   * of the step before, or zeros.
   */
  private refuseStale(figures: string, { weights }: StepBatch): void {
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

  private chunkFeeds(texts: Record<string, Tensor>): Record<string, Tensor> {
    const feeds: Record<string, Tensor> = {};
    for (const { ids, places, tokens } of this.update.tables) {
      const found = rowChunks(texts[ids].data as BigInt64Array);
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
