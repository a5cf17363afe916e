/**
 * @file Memory budget of a batch under a memory limit. It depends only on options, files and data, never on measurements, so that
 * a resumed run makes the same choices and ends with the same bytes.
 */
import { stat } from 'node:fs/promises';
import { memorySize, sized } from '../common/byte-size.ts';
import { InputError } from '../common/errors.ts';
import type { Dataset } from '../data/dataset.ts';
import type { Graph } from '../engine/graph/ir.ts';
import { loadGraph } from '../engine/io/onnx-file.ts';
import { fuse } from '../engine/passes/fuse.ts';
import { normalize } from '../engine/passes/normalize.ts';
import { keptBytes } from '../models/activation-memory.ts';
import { readModelFolder } from '../models/model-folder.ts';
import { searchBlock } from '../retrieval/exact-search.ts';

/** Baseline of Node, ONNX Runtime and this program: measured 230 MB on Linux. */
const BASE = 300e6;
/** Copies of a model's file during inference: its bytes, its graph, the runtime's. */
const SERVING = 3;
/** In training also gradients, two moments, the best weights and the saved state. */
const TRAINING = 8;
/** Fraction of the rest for the batch; the other part is for arrays not yet garbage-collected. */
const SHARE = 0.5;
/** Minimum memory of a batch. */
const LEAST = 16e6;

export interface Load {
  /** Model folders for inference and for training. */
  serving: readonly string[];
  training?: string;
  /** Models trained at a time; 1 by default. */
  students?: number;
  /** Number of weights of a model that is not made yet. */
  fresh?: number;
  dataset: Dataset;
  /** Number of embedding tables over all documents. */
  tables: number;
}

/**
 * The memory that one batch may take.
 * @throws InputError if the limit leaves too little
 */
export async function batchMemory(limit: string, load: Load): Promise<number> {
  const total = memorySize(limit);
  const fixed = await heldBytes(load);
  const batch = SHARE * (total - fixed);
  if (batch < LEAST)
    throw new InputError({
      code: 'memory.too-little',
      subject: `a memory limit of ${sized(total)}, where models, texts and embeddings take about ${sized(fixed)}`,
      remedy: `allow at least ${sized(fixed + LEAST / SHARE)}`,
    });
  return batch;
}

/** What models, texts and tables of embeddings take in memory, whatever a batch takes. */
export async function heldBytes(load: Load): Promise<number> {
  const [served, trained] = [
    await Promise.all(load.serving.map(sizeOf)),
    load.training ? await sizeOf(load.training) : undefined,
  ];
  const width = Math.max(...[...served, trained].map((s) => s?.width ?? 0), 1);
  const { documents, queries } = load.dataset;
  return (
    BASE +
    SERVING * served.reduce((n, s) => n + s.bytes, 0) +
    TRAINING * (load.students ?? 1) * (trained?.bytes ?? 4 * (load.fresh ?? 0)) +
    2 * ((documents.bytes ?? 0) + (queries.bytes ?? 0)) +
    4 * load.tables * documents.length * width
  );
}

/** Like batchMemory, for models used for inference only. */
export const servingMemory = (
  limit: string,
  models: readonly (string | undefined)[],
  dataset: Dataset,
): Promise<number> => batchMemory(limit, { serving: models.filter((m) => m !== undefined), dataset, tables: 2 });

/** The note about the budget. */
export const memorySentence = (limit: string, batch: number, documents: number): string =>
  `memory: of ${sized(memorySize(limit))} one batch may take ${sized(batch)}; ${searchBlock(documents, batch)} queries are searched at a time`;

const DEFAULT_WIDTH = 768;

async function sizeOf(folder: string): Promise<{ bytes: number; width: number }> {
  const { model, config } = await readModelFolder(folder);
  const width = [config.hidden_size, config.dim].find((n) => typeof n === 'number');
  return { bytes: (await stat(model)).size, width: (width as number | undefined) ?? DEFAULT_WIDTH };
}

/** Factor of the backward pass over the saved activations. */
const BACKWARD = 1.5;

/** Number of texts of the given length that fit into memory in a forward and backward pass; at least one. */
export async function trainedAtATime(model: Graph, tokens: number, memory: number): Promise<number> {
  return Math.max(1, Math.floor(memory / (BACKWARD * (await activations(model))(1, tokens))));
}

/** What a forward and backward pass of so many texts takes. @param folder of the model that is trained */
export async function stepBytes(folder: string, texts: number, tokens: number): Promise<number> {
  const graph = await loadGraph((await readModelFolder(folder)).model);
  return BACKWARD * (await activations(graph))(texts, tokens);
}

function activations(model: Graph): ReturnType<typeof keptBytes> {
  const graph = model.clone();
  normalize(graph, 'the model');
  fuse(graph);
  return keptBytes(graph);
}
