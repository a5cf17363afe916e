/** @file Reads a saved student: its distill.json, its model files, and the documents that it searches. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { InputError } from '../../common/errors.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Config } from '../../config/config.ts';
import type { Texts } from '../../data/dataset.ts';
import type { RunDataOptions } from '../../data/open.ts';
import { type Computing, computeFile } from '../../engine/runtime/provider.ts';
import type { SessionOptions } from '../../engine/runtime/session.ts';
import { readJson, readModelFolder } from '../../models/model-folder.ts';
import type { PromptOptions } from '../../models/modules/prompts.ts';
import type { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';
import { type Embeddings, type TeacherDType, teacherDTypes } from '../../teachers/teacher.ts';
import { isVectorFile } from '../../teachers/vectors/read-vectors.ts';
import { vectorsEmbedder } from '../../teachers/vectors/vectors-embedder.ts';

/** Truncation, searched documents and training data of the run that made a checkpoint. */
export interface Provenance {
  /** As the model's folder says where the run does not. */
  queryTokens?: number;
  documentTokens?: number;
  /** The dual-encoder whose documents are searched; absent where the student encodes them. */
  inherits?: {
    model: string;
    queryTokens?: number;
    documentTokens?: number;
    prompts?: PromptOptions;
    dtype?: TeacherDType;
  };
  /** Whether the documents that are searched were embedded by a service or come from files, which a stranger's file names. */
  elsewhere: boolean;
  teacher: { queryTokens?: number; documentTokens?: number };
  /** How the run read its data, for `openAsRun`. */
  data: Pick<RunDataOptions, 'columns' | 'holdOut' | 'splitSeed' | 'splits' | 'unlabelled'>;
}

type Embed = (texts: Texts, watch: RunControl) => Promise<Embeddings>;

/** @param options override the file */
export async function readProvenance(
  folder: string,
  options: { queryTokens?: number; documentTokens?: number; documents?: string } = {},
): Promise<Provenance> {
  const file = join(folder, 'distill.json');
  const { student, embedder, data, teacher } = configIn(await readJson(file), file);
  const documentTokens = options.documentTokens ?? student?.documentTokens;
  const queryTokens = options.queryTokens ?? student?.queryTokens;
  const limits = teacher?.kind === 'cross-encoder' || teacher?.kind === 'dual-encoder' ? teacher : undefined;
  const own = embedder && (embedder.kind === undefined || embedder.kind === 'dual-encoder') ? embedder : undefined;
  const model = options.documents ?? (student?.towers === 'query' ? own?.model : undefined);
  return {
    queryTokens,
    documentTokens,
    inherits:
      model === undefined
        ? undefined
        : {
            model,
            queryTokens: options.queryTokens ?? own?.queryTokens,
            documentTokens: options.documentTokens ?? own?.documentTokens,
            prompts: own?.model === model ? own.prompts : undefined,
            dtype: own?.model === model ? own.dtype : undefined,
          },
    elsewhere: options.documents === undefined && student?.towers === 'query' && model === undefined,
    teacher: { queryTokens: limits?.queryTokens, documentTokens: limits?.documentTokens },
    data: data ?? {},
  };
}

const count = z.int().positive().optional();
/** What is read of the config that a checkpoint was made with; keys that are not named are not looked at. */
const made = z.looseObject({
  student: z.looseObject({ towers: z.string().optional(), queryTokens: count, documentTokens: count }).nullish(),
  embedder: z
    .looseObject({
      kind: z.string().optional(),
      model: z.string().optional(),
      queryTokens: count,
      documentTokens: count,
      dtype: z.enum(teacherDTypes).optional(),
    })
    .nullish(),
  teacher: z.looseObject({ kind: z.string().optional(), queryTokens: count, documentTokens: count }).nullish(),
  // Its path is a stranger's word, and is read where it is named on the command line.
  data: z
    .object({
      columns: z.looseObject({}).optional(),
      holdOut: z.number().optional(),
      splitSeed: z.int().optional(),
      unlabelled: z.boolean().optional(),
      splits: z
        .looseObject({ train: z.string().optional(), dev: z.string().nullish(), test: z.string().optional() })
        .optional(),
    })
    .nullish(),
});

/** @throws InputError where a checkpoint's record is not what a run writes */
function configIn({ config }: Record<string, unknown>, file: string): Partial<Config> {
  const read = made.safeParse(config ?? {});
  if (read.success) return read.data as Partial<Config>;
  const [issue] = read.error.issues;
  throw new InputError({
    code: 'checkpoint.record',
    subject: `${file}: '${['config', ...issue.path].join('.')}' is not what a run writes (${issue.message})`,
    remedy:
      'copy the file from the checkpoint again, or remove it and give limits and the encoder of documents as options',
  });
}

/** Where the model of a folder computes: on the CPU where it is read in int8, or its file is a compact one. */
export async function deviceOf(
  { model, dtype }: { model: string; dtype?: string | undefined },
  provider: Computing['provider'] | undefined,
): Promise<SessionOptions | undefined> {
  if (!provider || dtype === 'int8') return undefined;
  // A folder with exits has a file a segment, in float32.
  const file = await readModelFolder(model).then(
    (folder) => folder.model,
    () => 'model.onnx',
  );
  return computeFile(file, provider);
}

/**
 * The encoder of documents in the type that they were embedded in; of fp16 without CUDA, in float32, which rounding alone tells from
 * it: a note says so.
 */
export async function openInherited(
  model: string,
  { dtype, ...limits }: Omit<NonNullable<Provenance['inherits']>, 'model'>,
  provider: Computing['provider'] | undefined,
  { onProgress }: RunControl = {},
): ReturnType<typeof dualEncoder> {
  const session = await deviceOf({ model, dtype }, provider);
  const whole = dtype === 'fp16' && session?.provider !== 'cuda';
  const note = `the run embedded documents by ${model} in fp16, which is for cuda; here it computes in float32, whose vectors differ by rounding`;
  if (whole) onProgress?.({ stage: 'embed documents', done: 0, unit: 'texts', note });
  return dualEncoder(model, { ...limits, dtype: whole ? undefined : dtype, session });
}

/** The documents that a student of queries searches, embedded once; undefined where it encodes them itself. */
export function inheritedDocuments(
  { inherits, elsewhere }: Provenance,
  cache?: ScoreCache,
  provider?: Computing['provider'],
): Embed | undefined {
  if (elsewhere)
    throw new InputError({
      code: 'evaluate.documents',
      subject:
        'this is a query tower, and the documents that it searches were embedded by a service or come from files',
      remedy: 'name a file of their vectors (.npy, .safetensors, .parquet, .jsonl) under --documents',
    });
  if (!inherits) return undefined;
  const { model, ...limits } = inherits;
  const embedAll: Embed = async (texts, watch) => {
    const vectors = isVectorFile(model);
    const encoder = vectors
      ? await vectorsEmbedder({ files: model })
      : await openInherited(model, limits, provider, watch);
    try {
      const { embed = encoder.embed } = (vectors ? undefined : cache?.wrap(encoder)) ?? encoder;
      return await embed(texts, 'document', watch);
    } finally {
      await encoder.dispose();
    }
  };
  let table: ReturnType<Embed> | undefined;
  return (texts, watch) => {
    table ??= embedAll(texts, watch);
    return table;
  };
}

export interface DTypeFile {
  /** As transformers.js names it: fp32, fp16, int8, q4, ...; exit1, exit1_int8, ... for a student with exits. */
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
    // Both names mean int8, and exporters write the same bytes under both.
    const dtype = suffix[1]?.replace(/(?<=^|_)quantized$/, 'int8') ?? 'fp32';
    if (!found.has(dtype) || suffix[1].endsWith('quantized')) found.set(dtype, join(onnx, name));
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
