/** @file Rotates a dual-encoder's vectors so that their prefixes are good embeddings; whole vectors keep their dot products. */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { VERSION } from '../common/version.ts';
import { absolute } from '../config/paths.ts';
import { type Dataset, judgedQueries, textsAt, unjudgedQueries } from '../data/dataset.ts';
import { openDataset } from '../data/open.ts';
import type { RowOptions } from '../data/row-dataset.ts';
import { castFloat, type Tensor } from '../engine/graph/tensor.ts';
import { encodeGraph, loadGraph } from '../engine/io/onnx-file.ts';
import { encodeSafetensors } from '../engine/io/safetensors.ts';
import { computeOn } from '../engine/runtime/provider.ts';
import { byPrefix, CHOICE_METRIC, type Split, searchVectors } from '../evaluation/systems/retrieve.ts';
import { opsetWarning, writeCheckpoint } from '../models/checkpoint.ts';
import { describeEncoder, type EncoderDescription } from '../models/encoder.ts';
import { encoderOutput, isPooled } from '../models/encoder-graph.ts';
import { endsInUnit, isLinear, tokenWidth, withMap } from '../models/modules/head.ts';
import { torchFamily } from '../students/architectures/index.ts';
import { huggingFaceWeights } from '../students/export/torch-names.ts';
import { mapped } from '../students/student.ts';
import { defaultCache, ScoreCache } from '../teachers/cache/score-cache.ts';
import { dualEncoder, dualEncoderKey } from '../teachers/dual-encoder.ts';
import type { Embeddings, Teacher } from '../teachers/teacher.ts';
import { embed } from '../teachers/teacher.ts';
import { learnProjection, projected, selectDimensions, selectionMatrix } from '../training/fewer-dimensions.ts';
import { learnRotation, rotated } from '../training/rotation.ts';

/** Which encoder is rotated on which data, for which widths. */
export interface RotateOptions {
  /** Folder of a dual-encoder. */
  model: string;
  data: string;
  /** How rows are read, where the data are not a BEIR folder. */
  rows?: RowOptions;
  output: string;
  /** Widths of the prefixes; half, a third, a quarter, an eighth and a sixteenth of the vector by default. */
  dimensions?: readonly number[];
  /**
   * What is learned: a rotation, whose prefixes are good embeddings; a projection of both sides to `keep` dimensions; or which `keep`
   * dimensions are kept as they are, by Sequential Attention, which ranks far worse than a projection.
   */
  select?: Selection;
  /** Dimensions that a projection or a selection leaves. */
  keep?: number;
  /** A model that was rotated before, whose rotation is used as it is: for an encoder that shares its space. */
  like?: string;
  /** Whose queries are learned from; those that no split judges are too. Judgements are not read. */
  split?: string;
  /** What prefixes are measured with, where the data have it. */
  dev?: string;
  /** Tokens a query and a document; by default where the model's folder cuts them. */
  queryTokens?: number;
  documentTokens?: number;
  steps?: number;
  seed?: number;
  cache?: string;
  provider?: 'auto' | 'cpu' | 'webgpu' | 'cuda';
}

export const selections = ['rotation', 'projection', 'sequential-attention'] as const;
export type Selection = (typeof selections)[number];

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
  const { model, output, like, dev = 'dev', seed = 0, steps } = options;
  checkSelection(options);
  const dataset = await openDataset(options.data, options.rows, watch);
  const described = await describeEncoder(model);
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
    if (options.keep !== undefined) return fewer(options, described, known, vectors, dataset, started, watch);
    const dimensions = options.dimensions ?? SHARES.map((share) => Math.floor(D * share)).filter((d) => d > 0);
    const R = like
      ? await rotationOf(like, D)
      : await learnRotation(vectors.queries, vectors.documents, { dimensions, steps, seed }, watch);
    await write(options, described, { dtype: 'float32', dims: [D, D], data: R }, watch);
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

/** @throws InputError where options of a rotation and of a selection are mixed */
function checkSelection({ select = 'rotation', keep, dimensions, like }: RotateOptions): void {
  const wrong = !selections.includes(select)
    ? ([`--select ${select}`, `choose ${selections.join(', ')}`] as const)
    : select === 'rotation'
      ? keep !== undefined && (['--keep with a rotation, which keeps all dimensions', 'name --dimensions'] as const)
      : keep === undefined
        ? ([`--select ${select} without --keep`, 'say how many dimensions are kept'] as const)
        : (dimensions || like) && ([`--select ${select} with --dimensions or --like`, 'leave them out'] as const);
  if (wrong) throw new InputError({ code: 'rotate.select', subject: wrong[0], remedy: wrong[1] });
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
  await write(options, described, matrix, watch);
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

/** The name of the matrix in the graph: by it an earlier rotation is found. */
const ROTATION = 'rotation';
/** How the folder of the module that holds it ends, where it is not in the graph. */
const MODULE = '_Rotation';
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

/** The rotation that stands behind a model's token vectors. */
async function rotationOf(model: string, D: number): Promise<Float32Array> {
  const { files, head } = await describeEncoder(model);
  const graph = await loadGraph(files.model);
  const module = head.modules.findLast((m) => m.kind === 'dense' && m.path.endsWith(MODULE));
  const found =
    module?.kind === 'dense'
      ? turned(module.weight)
      : (graph.constants.find((v) => v.name === ROTATION)?.constant as Tensor | undefined);
  if (found?.dims.length !== 2 || found.dims[0] !== D || found.dims[1] !== D)
    throw new InputError({
      code: 'rotate.no-rotation',
      subject: `${model} has no rotation of ${D} dimensions`,
      remedy: "name a folder that 'distill rotate' wrote, of a model with vectors of the same width",
    });
  return castFloat(found, 'float32').data;
}

async function write(
  options: RotateOptions,
  { files, head, prompts, similarity, lowerCase, maxLength }: EncoderDescription,
  rotation: Tensor<'float32'>,
  watch: RunControl,
): Promise<void> {
  const { model, output, data } = options;
  const own = await loadGraph(files.model);
  // Where the family's PyTorch class is known the rotation is a module, which sentence-transformers loads beside the class's weights; a
  // matrix in the graph, which every loader has, is the way of the others whose head is linear.
  const named = huggingFaceWeights(own, torchFamily(files.config));
  const weights = 'weights' in named ? encodeSafetensors(named.weights, { format: 'pt' }) : undefined;
  const turns = options.keep === undefined;
  const inGraph = !weights && isLinear(head) && !isPooled(encoderOutput(own, files.model, true));
  const graph = inGraph ? mapped(own, rotation, turns ? ROTATION : 'projection') : own;
  const turnedHead = inGraph ? head : withMap(head, rotation, turns ? MODULE.slice(1) : 'Projection');
  const bytes = encodeGraph(graph);
  const tooNew = opsetWarning(graph.opset);
  if (tooNew) watch.onProgress?.({ stage: 'save', done: 0, unit: 'files', note: `warning: ${tooNew}` });
  await writeCheckpoint(output, {
    model: bytes,
    files: new Map(weights && [['model.safetensors', weights]]),
    tokenizerFrom: files.folder,
    config: files.config,
    head: turnedHead,
    prompts,
    similarity,
    lowerCase,
    tokenWidth: tokenWidth(turnedHead, rotation.dims[1]),
    maxLength,
    provenance: {
      version: VERSION,
      made: 'distill rotate',
      options: {
        ...options,
        output: undefined,
        model: absolute(model),
        data: absolute(data),
        like: options.like && absolute(options.like),
      },
      model: createHash('sha256').update(bytes).digest('hex'),
    },
    card: `# ${basename(model)}, ${turns ? 'rotated' : `${rotation.dims[1]} dimensions`}

${aboutMap(options)}

\`\`\`python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer('FOLDER'${weights ? '' : ", backend='onnx'"})
\`\`\`
${inGraph ? '' : `\n${turns ? 'The rotation' : 'The map'} is the module \`${turnedHead.modules.findLast((m) => m.kind === 'dense')?.path}\`. JavaScript loaders do not read modules: \`distill export FOLDER\` writes a file whose output \`sentence_embedding\` has it.\n`}`,
  });
}

/** What the card says about the vectors. */
function aboutMap({ model, data, select, keep }: RotateOptions): string {
  const [from, on] = [`\`${basename(model)}\``, `\`${basename(data)}\``];
  if (keep === undefined)
    return `The vectors of ${from} times an orthogonal matrix, learned on ${on} so that their prefixes rank
documents as whole vectors do. Whole vectors have the dot products that they had. Cut queries and documents to the same width
and scale both to unit length again.`;
  const how =
    select === 'projection' ? 'projected by a matrix that was learned' : 'of which Sequential Attention chose some';
  return `The vectors of ${from} in ${keep} dimensions, ${how} on ${on} so that they rank documents as whole vectors do.`;
}

/** A matrix with rows and columns exchanged. */
function turned({ dims: [rows, columns], data }: Tensor<'float32'>): Tensor<'float32'> {
  const out = new Float32Array(data.length);
  for (let i = 0; i < rows; i++) for (let k = 0; k < columns; k++) out[k * rows + i] = data[i * columns + k];
  return { dtype: 'float32', dims: [columns, rows], data: out };
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
