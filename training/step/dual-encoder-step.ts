/** @file One training step as one graph: texts in; losses and the gradient of every weight out. */
import type { Graph } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { onProcessor, type SessionOptions } from '../../engine/runtime/session.ts';
import type { StepBatch } from '../batches/batches.ts';
import { packChunks, packForDevice, packGroups, type TokenBatch } from '../batches/length-groups.ts';
import { dropoutPlaces, dropoutTable } from './dropout.ts';
import { type EncoderGraphOptions, encoderGraph } from './encoder-graph.ts';
import { cachedPlan } from './grad-cache.ts';
import { type LossGraphOptions, lossGraph } from './loss-graph.ts';
import { wholePlan } from './single-run.ts';
import type { PackedBatch, Parameter, Plan, StepResult } from './training-step.ts';

export type { TokenBatch } from '../batches/length-groups.ts';
export type { WeightedLoss } from './loss-graph.ts';
export type { Parameter, StepResult } from './training-step.ts';

export interface StepGraphOptions extends EncoderGraphOptions, LossGraphOptions {
  /**
   * Texts are encoded in groups of like length, each padded to its own longest: how many groups a step forms. Groups of
   * 500 to 1,000 tokens also stay in a processor's caches; a graph of more groups takes longer to make.
   */
  groups?: number;
  /** GradCache: texts are encoded so many at a time, twice, so that memory does not grow with the batch. */
  gradCacheChunk?: number;
  session?: SessionOptions;
  /** Tokens that the encoder has positions for: a device fills texts up, and not beyond. */
  positions?: number;
  /** Of dropout's masks. */
  seed?: number;
}

/** More groups pad less and stay nearer to the processor, but ONNX Runtime takes longer to load their graph: see docs/performance.md. */
const DEFAULT_GROUPS = 4;

export class StepGraph {
  readonly parameters: readonly Parameter[];
  private readonly plan: Plan;
  private readonly options: Omit<StepGraphOptions, 'encoder'>;
  private readonly sites: number;
  private readonly table: Tensor | undefined;
  private steps = 0;

  private constructor(
    plan: Plan,
    parameters: readonly Parameter[],
    options: Omit<StepGraphOptions, 'encoder'>,
    sites: number,
  ) {
    this.plan = plan;
    this.parameters = parameters;
    this.options = options;
    this.sites = sites;
    this.table = options.dropout ? dropoutTable(options.dropout, options.seed ?? 0) : undefined;
  }

  /** @throws InputError where an operator has no gradient rule or the encoder has inputs that are not known */
  static async create(options: StepGraphOptions): Promise<StepGraph> {
    const encoder = await encoderGraph(options, onProcessor(options.session));
    const losses = await lossGraph(options, encoder.width, encoder.graph.opset);
    const trained = encoder.weights.filter((w) => encoder.gradients.has(w.name));
    const parameters = [...trained, ...(losses.projection ? [{ name: 'projection', ...losses.projection }] : [])].map(
      ({ name, tensor }): Parameter => {
        const gradient = encoder.gradients.get(name);
        const whole = !gradient || 'dense' in gradient;
        return {
          name,
          dims: tensor.dims,
          data: tensor.data.slice(),
          gradient: whole ? new Float32Array(tensor.data.length) : undefined,
        };
      },
    );
    const { encoder: _, ...rest } = options;
    const plan = options.gradCacheChunk
      ? await cachedPlan(encoder, losses, parameters, options.session)
      : await wholePlan(encoder, losses, parameters, options.groups ?? DEFAULT_GROUPS, options.session);
    return new StepGraph(plan, parameters, rest, encoder.dropout?.sites ?? 0);
  }

  /** What runs, to be looked at. */
  get graph(): Graph {
    return this.plan.graph;
  }

  /**
   * Runs forward and backward once: `parameters[i].gradient` and `.rows` then hold the gradients.
   * @param step decides dropout's masks; the count of runs by default
   */
  async run(batch: StepBatch, step = this.steps): Promise<StepResult> {
    this.steps = step + 1;
    return this.plan.run(packStep(batch, this.options, this.table, this.sites, step));
  }

  /** The first value of that step that is not finite, where it can be found; runs the step again. */
  async inspect(batch: StepBatch, step: number): Promise<string | undefined> {
    return this.plan.inspect?.(packStep(batch, this.options, this.table, this.sites, step));
  }

  async release(): Promise<void> {
    await this.plan.release();
  }
}

/** A batch as plans take it: texts in groups of like length, and where each of them went. */
export function packStep(
  batch: StepBatch,
  options: Omit<StepGraphOptions, 'encoder'>,
  table: Tensor | undefined,
  sites: number,
  step: number,
): PackedBatch {
  const { frozenDocuments, groups, gradCacheChunk, seed, extraTexts, positions } = options;
  const documents = frozenDocuments ? [] : batch.documents;
  const extra = extraTexts && batch.extra ? [batch.extra.texts] : [];
  const all = [batch.queries, ...documents, ...extra];
  const padId = batch.padId ?? paddingOf(all);
  const packed = gradCacheChunk
    ? packChunks(all, gradCacheChunk, padId)
    : onProcessor(options.session)
      ? packGroups(all, groups ?? DEFAULT_GROUPS, padId)
      : packForDevice(all, groups ?? DEFAULT_GROUPS, padId, positions);
  return {
    groups: packed.groups,
    losses: lossFeeds(batch, packed.places, documents.length),
    ...(table && {
      dropout: { table, places: packed.groups.map((_, g) => dropoutPlaces(sites, seed ?? 0, step, g)) },
    }),
  };
}

function lossFeeds(
  batch: StepBatch,
  places: readonly BigInt64Array[],
  documentBatches: number,
): Record<string, Tensor> {
  const at = (parts: readonly BigInt64Array[]): Tensor => {
    const data = BigInt64Array.from(parts.flatMap((p) => [...p]));
    return { dtype: 'int64', dims: [data.length], data };
  };
  const feeds: Record<string, Tensor> = {
    queries_at: at(places.slice(0, 1)),
    documents_at: at(places.slice(1, 1 + documentBatches)),
    candidates: batch.candidates,
    weights: batch.weights,
  };
  if (batch.documentEmbeddings) feeds.documents = batch.documentEmbeddings;
  for (const [name, array] of Object.entries(batch.arrays)) if (array) feeds[name] = array;
  if (batch.extra) {
    feeds.extra_at = at(places.slice(1 + documentBatches));
    feeds.teacherExtra = batch.extra.embeddings;
  }
  return feeds;
}

/** The id under a mask of 0. Where nothing is padded, none is needed unless batches of different lengths meet: 0 then. */
function paddingOf(batches: readonly TokenBatch[]): number {
  for (const b of batches) {
    const at = b.mask.lastIndexOf(0n);
    if (at >= 0) return Number(b.ids[at]);
  }
  return 0;
}
