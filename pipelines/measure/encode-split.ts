/** @file A saved student's embeddings of a split, by any of the model files in its folder. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import type { Watch } from '../../common/progress.ts';
import { type Dataset, judgedQueries, textsAt } from '../../data/dataset.ts';
import { Encoder } from '../../models/encoder.ts';
import { readJson, readModelFolder } from '../../models/model-folder.ts';
import { prefix } from '../../retrieval/exact-search.ts';
import type { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';

/** How texts were cut, and whose documents were searched, in the run that made a checkpoint. */
export interface Made {
  queryTokens: number;
  documentTokens: number;
  /** Folder of the dual-encoder whose documents are searched; absent where the student encodes them. */
  documents?: string;
  documentsTokens?: number;
  teacher: { queryTokens?: number; documentTokens?: number };
  /** How rows without splits were split. */
  data?: { holdOut?: number; splitSeed?: number };
}

/** What options say, else what the checkpoint's distill.json says. */
export async function madeWith(
  student: string,
  options: { queryTokens?: number; documentTokens?: number; documents?: string },
): Promise<Made> {
  const { config } = (await readJson(join(student, 'distill.json'))) as {
    config?: {
      data?: Made['data'];
      student?: { queryTokens?: number; documentTokens?: number; towers?: string };
      embedder?: { model?: string; documentTokens?: number };
      teacher?: { queryTokens?: number; documentTokens?: number };
    };
  };
  const documentTokens = options.documentTokens ?? config?.student?.documentTokens ?? 192;
  return {
    queryTokens: options.queryTokens ?? config?.student?.queryTokens ?? 64,
    documentTokens,
    documents: options.documents ?? (config?.student?.towers === 'query' ? config.embedder?.model : undefined),
    documentsTokens: config?.embedder?.documentTokens ?? documentTokens,
    teacher: { queryTokens: config?.teacher?.queryTokens, documentTokens: config?.teacher?.documentTokens },
    data: config?.data,
  };
}

export interface DTypeFile {
  /** As transformers.js names it: fp32, fp16, int8, q4, ... */
  dtype: string;
  file: string;
}

/**
 * The model files of a folder by dtype, the folder's own first.
 * @param wanted names separated by commas, or `all`; the folder's own by default
 * @throws InputError where there is none of a name
 */
export async function dtypeFiles(folder: string, wanted?: string): Promise<DTypeFile[]> {
  const { model } = await readModelFolder(folder);
  const onnx = join(folder, 'onnx');
  const found = new Map<string, string>();
  for (const name of existsSync(onnx) ? readdirSync(onnx).sort() : []) {
    const suffix = /^model(?:_(\w+))?\.onnx$/.exec(name);
    if (!suffix) continue;
    // Both names stand for int8, and exporters write the same bytes under both.
    const dtype = suffix[1] === 'quantized' ? 'int8' : (suffix[1] ?? 'fp32');
    if (!found.has(dtype) || suffix[1] === 'quantized') found.set(dtype, join(onnx, name));
  }
  if (!found.size) found.set('fp32', model);
  const all = [...found].map(([dtype, file]) => ({ dtype, file }));
  all.sort((a, b) => Number(b.file === model) - Number(a.file === model));
  if (wanted === undefined) return all.slice(0, 1);
  if (wanted === 'all') return all;
  return wanted.split(',').map((name) => {
    const one = all.find((f) => f.dtype === name.trim());
    if (!one)
      throw new InputError({
        code: 'evaluate.dtype',
        subject: `${folder} has no model file of dtype '${name.trim()}'`,
        expected: `${all.map((f) => f.dtype).join(', ')} or all`,
        remedy: 'name one of these under --dtype, or export it first',
      });
    return one;
  });
}

export interface Vectors {
  /** Positions of the judged queries. */
  positions: number[];
  dimensions: number;
  /** [n, dimensions] and [m, dimensions], row-major. */
  queries: Float32Array;
  documents: Float32Array;
}

/** Queries by the student; documents too, unless they are another encoder's. */
export async function encodeStudentSplit(
  dataset: Dataset,
  split: string,
  folder: string,
  { file }: DTypeFile,
  made: Made,
  cache: ScoreCache,
  watch: Watch,
): Promise<Vectors> {
  const positions = judgedQueries(dataset, split);
  const encoder = await Encoder.load(file);
  try {
    const { dimensions } = encoder;
    const { queryTokens, documentTokens } = made;
    const queries = await encoder.encode(textsAt(dataset, positions), {
      ...watch,
      maxLength: queryTokens,
      stage: 'encode queries',
    });
    if (!made.documents) {
      const documents = await encoder.encode(dataset.documents, {
        ...watch,
        maxLength: documentTokens,
        stage: 'encode documents',
      });
      return { positions, dimensions, queries, documents };
    }
    const other = await dualEncoder(made.documents, { documentTokens: made.documentsTokens, queryTokens });
    try {
      const embedded = await cache.wrap(other).embed?.(dataset.documents, 'document', watch);
      // A student exported with fewer dimensions searches the same prefix of the documents.
      if (embedded && embedded.dimensions > dimensions)
        return { positions, dimensions, queries, documents: prefix(embedded.data, embedded.dimensions, dimensions) };
      if (embedded?.dimensions !== dimensions)
        throw new InputError({
          code: 'evaluate.dimensions',
          subject: `the documents of ${made.documents} have ${embedded?.dimensions} dimensions`,
          expected: `at least ${dimensions}, as the queries of ${folder}`,
          remedy: 'name the dual-encoder whose documents the student was trained on under --documents',
        });
      return { positions, dimensions, queries, documents: embedded.data };
    } finally {
      await other.dispose();
    }
  } finally {
    await encoder.dispose();
  }
}
