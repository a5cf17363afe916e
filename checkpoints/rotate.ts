import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { type Dataset, judgedQueries, textsAt, unjudgedQueries } from '../data/dataset.ts';
import { openAsRun } from '../data/open.ts';
import { computeOn } from '../engine/runtime/provider.ts';
import { byPrefix, CHOICE_METRIC, type Split, searchVectors } from '../evaluation/systems/retrieve.ts';
import { describeEncoder, type EncoderDescription } from '../models/encoder.ts';
import { endsInUnit } from '../models/modules/head.ts';
import { readProvenance } from '../serving/encoder/checkpoint.ts';
import { defaultCache, ScoreCache } from '../teachers/cache/score-cache.ts';
import { dualEncoder, dualEncoderKey } from '../teachers/dual-encoder.ts';
import type { Embeddings, Teacher } from '../teachers/teacher.ts';
import { embed } from '../teachers/teacher.ts';
import { learnProjection, projected, selectDimensions, selectionMatrix } from '../training/fewer-dimensions.ts';
import { learnRotation, rotated } from '../training/rotation.ts';
import { checkSelection, type RotateOptions } from './rotate-options.ts';
import { rotationOf, writeRotated } from './rotated-folder.ts';

/** Quality by width before and after. */
export interface RotateReport {
  /** The model folder written. */
  output: string;
  dimensions: number;
  /**
   * nDCG@10 on `dev` by width, widest first: of the vectors cut off as they were, and rotated. Of a projection or a selection the whole
   * vectors as they were, and the width that is left: cut off there, and projected.
   */
  prefixes?: { dimensions: number; before: number; after: number }[];
  seconds: number;
}

/**
 * Learns an orthogonal map of a dual-encoder's vectors whose prefixes rank as the whole vectors do, and writes the rotated model.
 * @throws InputError where the model, the data or a width does not fit
 */
export async function rotate(options: RotateOptions, watch: RunControl = {}): Promise<RotateReport> {
  const started = performance.now();
  const { model, output, like, split = 'train', dev = 'dev', seed = 0, steps } = options;
  checkSelection(options);
  const described = await describeEncoder(model);
  const made = await readProvenance(described.files.folder);
  const rows = { ...made.data, ...options.rows };
  const dataset = await openAsRun(options.data, rows, [split, dev], watch);
  if (!endsInUnit(described.head) && described.similarity !== 'cosine')
    throw new InputError({
      code: 'rotate.model',
      subject: `${model} gives vectors that are not of unit length`,
      expected: 'vectors that are compared by their cosine',
      remedy: 'a rotation of other vectors is not one of what they find; use another model',
    });
  return withEncoder(options, async (encoder, cache) => {
    const known = cache.wrap(encoder);
    const vectors = await embedAll(known, options, dataset, watch);
    const { dimensions: D } = vectors.documents;
    if (options.keep !== undefined)
      return fewer({ ...options, rows }, described, known, vectors, dataset, started, watch);
    const dimensions = options.dimensions ?? SHARES.map((share) => Math.floor(D * share)).filter((d) => d > 0);
    const R = like
      ? await rotationOf(like, D)
      : await learnRotation(vectors.queries, vectors.documents, { dimensions, steps, seed }, watch);
    await writeRotated({ ...options, rows }, described, { dtype: 'float32', dims: [D, D], data: R }, watch);
    // The rotated vectors go into the cache, so that a run with this model as teacher does not embed everything again.
    const key = await dualEncoderKey(output, options);
    const turning = cache.wrap({
      ...encoder,
      name: output,
      key,
      embed: async (...texts) => rotated(await embed(known)(...texts), R),
    });
    const after = await embedAll(turning, options, dataset, watch);
    const prefixes =
      vectors.dev &&
      after.dev &&
      (await byWidth({ dataset, split: dev, depth: 10 }, vectors, after, dimensions, watch));
    return { output, dimensions: D, prefixes, seconds: (performance.now() - started) / 1000 };
  });
}

/** A model with fewer dimensions. */
async function fewer(
  options: RotateOptions,
  described: EncoderDescription,
  known: Teacher,
  vectors: Embedded,
  dataset: Dataset,
  started: number,
  watch: RunControl,
): Promise<RotateReport> {
  const { output, dev = 'dev', select, keep = 0, seed = 0, steps } = options;
  const { queries, documents } = vectors;
  const { dimensions: D } = documents;
  const matrix =
    select === 'projection'
      ? await learnProjection(queries, documents, { keep, seed, steps }, watch)
      : selectionMatrix(await selectDimensions(queries, documents, { keep, seed }, watch), D);
  await writeRotated(options, described, matrix, watch);
  const after = await embedAll(
    { ...known, embed: async (...texts) => projected(await embed(known)(...texts), matrix) },
    options,
    dataset,
    watch,
  );
  const searched = { dataset, split: dev, depth: 10 };
  if (!vectors.dev || !after.dev) return { output, dimensions: keep, seconds: (performance.now() - started) / 1000 };
  const [whole, cut] = await measured(searched, vectors, [keep], watch);
  const [short] = await measured(searched, after, [], watch);
  return {
    output,
    dimensions: keep,
    prefixes: [
      { dimensions: D, before: whole.value, after: whole.value },
      { dimensions: keep, before: cut.value, after: short.value },
    ],
    seconds: (performance.now() - started) / 1000,
  };
}

/** nDCG@10 of whole vectors and of prefixes, widest first. */
async function measured(
  searched: Split,
  { dev, documents: { dimensions, data: documents } }: Embedded,
  widths: readonly number[],
  watch: RunControl,
) {
  const positions = judgedQueries(searched.dataset, searched.split);
  const found = { positions, dimensions, queries: (dev as Embeddings).data, documents };
  const run = await searchVectors(found, searched.dataset, searched.depth, watch);
  const all = [dimensions, ...[...widths].sort((a, b) => b - a)];
  return byPrefix({ run, vectors: found }, all, searched, CHOICE_METRIC, watch);
}

const SHARES = [1 / 2, 1 / 3, 1 / 4, 1 / 8, 1 / 16];

/** The cache and the model behind it, for as long as `work` takes. */
async function withEncoder<T>(
  { model, queryTokens, documentTokens, cache: path, provider = 'auto' }: RotateOptions,
  work: (encoder: Teacher, cache: ScoreCache) => Promise<T>,
): Promise<T> {
  const cache = await ScoreCache.open(path ?? defaultCache());
  const session = await computeOn({ provider });
  const encoder = await dualEncoder(model, { queryTokens, documentTokens, session });
  try {
    return await work(encoder, cache);
  } finally {
    await encoder.dispose();
    await cache.close();
  }
}

interface Embedded {
  documents: Embeddings;
  queries: Embeddings;
  dev?: Embeddings;
}

/** Embeddings of the documents, of the training queries, and of the queries that prefixes are measured with. */
async function embedAll(
  model: Teacher,
  { split = 'train', dev = 'dev' }: RotateOptions,
  dataset: Dataset,
  watch: RunControl,
): Promise<Embedded> {
  const queries = [...judgedQueries(dataset, split), ...unjudgedQueries(dataset)];
  return {
    documents: await embed(model)(dataset.documents, 'document', watch),
    queries: await embed(model)(textsAt(dataset, queries), 'query', watch),
    dev: dataset.splits.includes(dev)
      ? await embed(model)(textsAt(dataset, judgedQueries(dataset, dev)), 'query', watch)
      : undefined,
  };
}

/** nDCG@10 of whole vectors and prefixes, as they were and rotated. */
async function byWidth(
  searched: Split,
  vectors: Embedded,
  turned: Embedded,
  widths: readonly number[],
  watch: RunControl,
): Promise<NonNullable<RotateReport['prefixes']>> {
  const before = await measured(searched, vectors, widths, watch);
  const after = await measured(searched, turned, widths, watch);
  return before.map(({ dimensions, value }, i) => ({ dimensions, before: value, after: after[i].value }));
}
