/** @file The training step of a dual-encoder: texts in; losses and the gradient of every weight out. */
import { InputError } from '../../common/errors.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { onProcessor, type SessionOptions } from '../../engine/runtime/session.ts';
import type { StepBatch } from '../batches/batches.ts';
import { chunkByLength, groupByLength, groupForDevice, type TokenBatch } from '../batches/length-groups.ts';
import { assemble, type GroupedBatch, groupFeeds } from './assemble.ts';
import { dropoutPlaces, dropoutTable } from './dropout.ts';
import { type EncoderGraph, type EncoderGraphOptions, encoderGraph } from './encoder-graph.ts';
import { gradCache } from './grad-cache.ts';
import { type LossGraph, type LossGraphOptions, lossGraph, observedBy } from './loss-graph.ts';
import { singleRun } from './single-run.ts';
import { type DifferentiatedStep, formsOn, type HostStep } from './training-step.ts';

export type { WeightedLoss } from './loss-graph.ts';

export type DualEncoderStep = DifferentiatedStep<StepBatch>;

export interface DualEncoderStepOptions extends EncoderGraphOptions, LossGraphOptions {
  /**
   * Number of groups of similar length in which texts are encoded, each padded to its longest. Groups of 500 to 1,000 tokens also
   * fit into a CPU's caches; more groups make the graph slower to load.
   */
  groups?: number;
  /** GradCache: texts per chunk; each chunk is encoded twice, so that memory does not grow with the batch. */
  gradCacheChunk?: number;
  session?: SessionOptions;
  /** The encoder's maximum number of positions: on a device texts are padded, but not beyond it. */
  positions?: number;
  /** Seed of the dropout masks. */
  seed?: number;
}

/**
 * More groups mean less padding and better use of caches, but a graph that loads more slowly: see docs/performance.md.
 */
const HOST_GROUPS = 4;
/** On a device each group adds a few hundred dispatches, which cost more than padding. */
const DEVICE_GROUPS = 2;

/**
 * The step as one graph. `gradCacheChunk` does not apply here.
 *
 * @param processor whether it will run on a CPU and not on a device: decides the forms of gradients, the default number of groups and
 * the shapes to which they are padded
 * @throws InputError if an operator has no gradient rule or the encoder has unknown inputs
 */
export async function dualEncoderStep(
  options: DualEncoderStepOptions,
  processor = onProcessor(options.session),
): Promise<DualEncoderStep> {
  const { encoder: _, gradCacheChunk: __, ...rest } = options;
  const groups = options.groups ?? (processor ? HOST_GROUPS : DEVICE_GROUPS);
  const encoder = await encoderGraph({
    observed: observedBy(options.losses),
    forms: formsOn(options.session, processor),
    ...options,
  });
  const losses = await lossesOf(options, encoder);
  const group = grouping({ ...rest, groups }, encoder.dropout?.sites);
  return {
    ...assemble(encoder, losses, groups, options.precision === 'float16'),
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
  const forms = formsOn(options.session);
  const encoder = await encoderGraph({ observed: observedBy(options.losses), forms, ...options });
  const losses = await lossesOf(options, encoder);
  const { encoder: _, ...rest } = options;
  const group = grouping(rest, encoder.dropout?.sites);
  return gradCache(encoder, losses, startOf(encoder, losses), group, options.session);
}

type Start = DualEncoderStep['start'];
type Grouping = Omit<DualEncoderStepOptions, 'encoder'>;

/** The losses over the embeddings of each exit. @throws InputError where exits have no documents that are shared */
function lossesOf(options: DualEncoderStepOptions, { width, graph, observed }: EncoderGraph): Promise<LossGraph> {
  const parts = 1 + (options.exits?.length ?? 0);
  if (parts > 1 && !options.frozenDocuments)
    throw new InputError({
      code: 'train.exits',
      subject: 'a student with exits needs frozen documents, which all its depths search',
      remedy: 'train a query tower over given documents, or remove the exits',
    });
  const vectors = observed.reduce((n, o) => n - o.columns, width);
  return lossGraph(options, vectors / parts, graph.opset, parts, observed);
}

function startOf(encoder: EncoderGraph, losses: LossGraph): Start {
  const start = new Map<string, Tensor>(encoder.weights.map((w) => [w.name, w.tensor]));
  if (losses.projection) start.set('projection', losses.projection.tensor);
  return start;
}

/** Groups a batch's texts by length and records the position of each. @param sites of dropout, if any */
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
  const { frozenDocuments, groups, gradCacheChunk, seed, extraTexts, kept, positions } = options;
  const documents = frozenDocuments ? [] : batch.documents;
  const extra = extraTexts && batch.extra ? [batch.extra.texts] : [];
  const keep = kept && batch.kept ? [batch.kept.texts] : [];
  const all = [batch.queries, ...documents, ...extra, ...keep];
  const padId = batch.padId ?? paddingOf(all);
  const grouped = gradCacheChunk
    ? chunkByLength(all, gradCacheChunk, padId)
    : onProcessor(options.session)
      ? groupByLength(all, groups ?? HOST_GROUPS, padId)
      : groupForDevice(all, groups ?? HOST_GROUPS, padId, positions);
  return {
    groups: grouped.groups,
    losses: lossFeeds(batch, grouped.places, [documents.length, extra.length]),
    ...(table && {
      dropout: { table, places: grouped.groups.map((_, g) => dropoutPlaces(sites, seed ?? 0, step, g)) },
    }),
  };
}

function lossFeeds(
  batch: StepBatch,
  places: readonly BigInt64Array[],
  [documents, extra]: readonly [number, number],
): Record<string, Tensor> {
  const at = (parts: readonly BigInt64Array[]): Tensor => {
    const data = BigInt64Array.from(parts.flatMap((p) => [...p]));
    return { dtype: 'int64', dims: [data.length], data };
  };
  const feeds: Record<string, Tensor> = {
    queries_at: at(places.slice(0, 1)),
    documents_at: at(places.slice(1, 1 + documents)),
    candidates: batch.candidates,
    weights: batch.weights,
  };
  if (batch.lexical) feeds.lexical = batch.lexical;
  if (batch.documentEmbeddings) feeds.documents = batch.documentEmbeddings;
  for (const [name, array] of Object.entries(batch.arrays)) if (array) feeds[name] = array;
  if (batch.extra) {
    feeds.extra_at = at(places.slice(1 + documents, 1 + documents + extra));
    feeds.teacherExtra = batch.extra.embeddings;
  }
  if (batch.kept) {
    feeds.kept_at = at(places.slice(1 + documents + extra));
    feeds.teacherKept = batch.kept.embeddings;
  }
  return feeds;
}

/**
 * The padding id, read under a mask of 0. Without padding none is needed, except where batches of different lengths are combined:
 * then 0.
 */
function paddingOf(batches: readonly TokenBatch[]): number {
  for (const b of batches) {
    const at = b.mask.lastIndexOf(0n);
    if (at >= 0) return Number(b.ids[at]);
  }
  return 0;
}
