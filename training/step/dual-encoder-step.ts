/** @file The training step of a dual-encoder: texts in; losses and the gradient of every weight out. */
import type { Tensor } from '../../engine/graph/tensor.ts';
import { onProcessor, type SessionOptions } from '../../engine/runtime/session.ts';
import type { StepBatch } from '../batches/batches.ts';
import { chunkByLength, groupByLength, groupForDevice, type TokenBatch } from '../batches/length-groups.ts';
import { assemble, type GroupedBatch, groupFeeds } from './assemble.ts';
import { dropoutPlaces, dropoutTable } from './dropout.ts';
import { type EncoderGraphOptions, encoderGraph } from './encoder-graph.ts';
import { gradCache } from './grad-cache.ts';
import { type LossGraphOptions, lossGraph } from './loss-graph.ts';
import { singleRun } from './single-run.ts';
import type { DifferentiatedStep, HostStep } from './training-step.ts';

export type { WeightedLoss } from './loss-graph.ts';

export type DualEncoderStep = DifferentiatedStep<StepBatch>;

export interface DualEncoderStepOptions extends EncoderGraphOptions, LossGraphOptions {
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

/** More groups pad less and stay nearer to the caches, but ONNX Runtime takes longer to load their graph: see docs/performance.md. */
const HOST_GROUPS = 4;
/** On a device each group is a few hundred dispatches more, which cost more than padding does. */
const DEVICE_GROUPS = 2;

/**
 * The step as one graph. `gradCacheChunk` does not apply here.
 *
 * @param processor whether it will run on a processor and not on a device: decides how sums over rows are written, how many
 *   groups there are by default and to which shapes they are filled up
 * @throws InputError where an operator has no gradient rule or the encoder has inputs that are not known
 */
export async function dualEncoderStep(
  options: DualEncoderStepOptions,
  processor = onProcessor(options.session),
): Promise<DualEncoderStep> {
  const { encoder: _, gradCacheChunk: __, ...rest } = options;
  const groups = options.groups ?? (processor ? HOST_GROUPS : DEVICE_GROUPS);
  const encoder = await encoderGraph(options, processor);
  const losses = await lossGraph(options, encoder.width, encoder.graph.opset);
  const group = grouping({ ...rest, groups }, encoder.dropout?.sites);
  return {
    ...assemble(encoder, losses, groups),
    start: startOf(encoder, losses),
    feeds(batch, step) {
      const grouped = group(batch, step);
      return { ...grouped.losses, ...groupFeeds(grouped) };
    },
  };
}

/** The step on the host, as one session run, or by GradCache where `gradCacheChunk` is given. @throws as dualEncoderStep */
export async function dualEncoderOnHost(options: DualEncoderStepOptions): Promise<HostStep<StepBatch>> {
  if (!options.gradCacheChunk) return singleRun(await dualEncoderStep(options), options.session);
  const encoder = await encoderGraph(options, onProcessor(options.session));
  const losses = await lossGraph(options, encoder.width, encoder.graph.opset);
  const { encoder: _, ...rest } = options;
  const group = grouping(rest, encoder.dropout?.sites);
  return gradCache(encoder, losses, startOf(encoder, losses), group, options.session);
}

type Start = DualEncoderStep['start'];
type Grouping = Omit<DualEncoderStepOptions, 'encoder'>;

function startOf(
  encoder: Awaited<ReturnType<typeof encoderGraph>>,
  losses: Awaited<ReturnType<typeof lossGraph>>,
): Start {
  const start = new Map<string, Tensor>(encoder.weights.map((w) => [w.name, w.tensor]));
  if (losses.projection) start.set('projection', losses.projection.tensor);
  return start;
}

/** Gathers a batch's texts in groups of like length, and notes where each of them went. @param sites of dropout, if any */
function grouping(options: Grouping, sites = 0): (batch: StepBatch, step: number) => GroupedBatch {
  const table = options.dropout ? dropoutTable(options.dropout, options.seed ?? 0) : undefined;
  return (batch, step) => groupTexts(batch, options, table, sites, step);
}

function groupTexts(
  batch: StepBatch,
  options: Grouping,
  table: Tensor | undefined,
  sites: number,
  step: number,
): GroupedBatch {
  const { frozenDocuments, groups, gradCacheChunk, seed, extraTexts, positions } = options;
  const documents = frozenDocuments ? [] : batch.documents;
  const extra = extraTexts && batch.extra ? [batch.extra.texts] : [];
  const all = [batch.queries, ...documents, ...extra];
  const padId = batch.padId ?? paddingOf(all);
  const grouped = gradCacheChunk
    ? chunkByLength(all, gradCacheChunk, padId)
    : onProcessor(options.session)
      ? groupByLength(all, groups ?? HOST_GROUPS, padId)
      : groupForDevice(all, groups ?? HOST_GROUPS, padId, positions);
  return {
    groups: grouped.groups,
    losses: lossFeeds(batch, grouped.places, documents.length),
    ...(table && {
      dropout: { table, places: grouped.groups.map((_, g) => dropoutPlaces(sites, seed ?? 0, step, g)) },
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
