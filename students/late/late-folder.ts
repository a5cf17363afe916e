/**
 * @file The re-ranker's files in a checkpoint: multi-vector.json, multi-vector.safetensors, and what PyLate and sentence-transformers
 * read. The folder itself is the dual-encoder that finds documents.
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { InputError } from '../../common/errors.ts';
import { hashParts } from '../../common/files.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { encodeSafetensors, parseSafetensors } from '../../engine/io/safetensors.ts';
import { LATE, type LateModel, type LateSettings, lateModel } from './late-model.ts';
import { type LateScorerName, lateScorers } from './members.ts';
import type { LateScorer, LateWeights } from './scorer.ts';

const FORMAT = 'onnx-distill-multi-vector-1';
const [FILE, WEIGHTS] = ['multi-vector.json', 'multi-vector.safetensors'];
/** The module of PyLate and sentence-transformers that maps token vectors. */
const DENSE = '1_Dense';
/** The sub-folder that PyLate loads. */
const PYLATE = 'pylate';

const count = z.number().int().positive();
const schema = z.strictObject({
  format: z.literal(FORMAT),
  scorer: z.enum(Object.keys(lateScorers) as [LateScorerName, ...LateScorerName[]]),
  dimensions: count,
  queryTokens: count,
  documentTokens: count,
  /** Tokens that the encoders read of a text, special tokens included. */
  reads: z.strictObject({ query: count, document: count }),
});

/** What multi-vector.json says. */
export type LateFile = Omit<z.infer<typeof schema>, 'format'>;

/** Whether a folder holds a re-ranker of late interaction. */
export const isLateFolder = (folder: string): boolean => existsSync(join(folder, FILE));

/** The re-ranker's own files, by their paths in the folder. */
export function lateFiles(settings: LateSettings, reads: LateFile['reads'], weights: LateWeights) {
  const content: z.infer<typeof schema> = { format: FORMAT, ...settings, reads };
  return new Map<string, Uint8Array | string>([
    [FILE, `${JSON.stringify(content, null, 2)}\n`],
    [WEIGHTS, encodeSafetensors(weights)],
  ]);
}

/**
 * What other tools read of a re-ranker.
 *
 * - The folder itself is one of sentence-transformers (5.7 and later): a Dense over token vectors stands behind the modules of the
 *   dual-encoder. `SentenceTransformer` gives the vector of the whole text as before, and with output_value='token_embeddings' the mapped
 *   token vectors; `MultiVectorEncoder` (6.2) leaves the pooling out.
 * - `pylate/` is one of PyLate, whose Dense (1.6, over sentence-transformers 5.3) takes no names of inputs and refuses a configuration
 *   that has them: the Transformer of the folder above it, and the Dense in PyLate's form.
 *
 * @param written modules.json and config_sentence_transformers.json as they are without it
 * @source lightonai/pylate, models/colbert.py and models/Dense.py
 */
export function pylateFiles(
  written: { modules: string; config: string },
  reads: LateFile['reads'],
  weights: LateWeights,
): Map<string, Uint8Array | string> {
  if (weights.has(LATE.queryProjection)) return new Map();
  const { dims, data } = weights.get(LATE.projection) as Tensor<'float32'>;
  const [width, D] = dims;
  const turned = new Float32Array(width * D);
  for (let i = 0; i < width; i++) for (let k = 0; k < D; k++) turned[k * width + i] = data[i * D + k];
  const modules = JSON.parse(written.modules) as { idx: number; name: string; path: string; type: string }[];
  const idx = modules.length;
  const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
  const type = 'sentence_transformers.models';
  const dense = {
    in_features: width,
    out_features: D,
    bias: false,
    activation_function: 'torch.nn.modules.linear.Identity',
  };
  const linear = encodeSafetensors(new Map([['linear.weight', { dtype: 'float32', dims: [D, width], data: turned }]]), {
    format: 'pt',
  });
  const lengths = {
    query_prefix: '',
    document_prefix: '',
    query_length: reads.query,
    document_length: reads.document,
    attend_to_expansion_tokens: false,
    do_query_expansion: false,
    skiplist_words: [],
  };
  return new Map<string, Uint8Array | string>([
    ['modules.json', json([...modules, { idx, name: String(idx), path: DENSE, type: `${type}.Dense` }])],
    [
      `${DENSE}/config.json`,
      json({ ...dense, module_input_name: 'token_embeddings', module_output_name: 'token_embeddings' }),
    ],
    [`${DENSE}/model.safetensors`, linear],
    ['config_sentence_transformers.json', json({ ...JSON.parse(written.config), ...lengths })],
    [
      `${PYLATE}/modules.json`,
      json([
        { idx: 0, name: '0', path: '..', type: `${type}.Transformer` },
        { idx: 1, name: '1', path: DENSE, type: 'pylate.models.Dense.Dense' },
      ]),
    ],
    [`${PYLATE}/${DENSE}/config.json`, json(dense)],
    [`${PYLATE}/${DENSE}/model.safetensors`, linear],
    [`${PYLATE}/config_sentence_transformers.json`, json({ model_type: 'ColBERT', ...lengths })],
  ]);
}

/** An opened re-ranker's files. */
export interface LateFolder {
  model: LateModel;
  file: LateFile;
  /** Of the weights and settings. */
  key: string;
}

/** @throws InputError where the files are missing, of another version, or do not fit each other */
export async function readLateFolder(folder: string): Promise<LateFolder> {
  const file = join(folder, FILE);
  const refuse = (why: string): InputError =>
    new InputError({
      code: 'multi-vector.file',
      subject: `${file} is not understood: ${why}`,
      remedy: "train the re-ranker again ('pipeline: late-interaction'), or copy the folder whole",
    });
  let text: string;
  let bytes: Buffer;
  try {
    [text, bytes] = await Promise.all([readFile(file, 'utf8'), readFile(join(folder, WEIGHTS))]);
  } catch (cause) {
    throw refuse((cause as Error).message);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw refuse('it is not JSON');
  }
  const found = (value as { format?: unknown } | null)?.format;
  if (found !== FORMAT) throw refuse(`its format is ${JSON.stringify(found)}, expected ${FORMAT}`);
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw refuse(`${parsed.error.issues[0].path.join('.')}: ${parsed.error.issues[0].message}`);
  const { format: _, reads, ...settings } = parsed.data;
  const weights = new Map(
    [...parseSafetensors(bytes, join(folder, WEIGHTS))].map(([name, t]) => [name, t as Tensor<'float32'>]),
  );
  const scorer: LateScorer = lateScorers[settings.scorer];
  const needed = new Map<string, readonly (number | undefined)[]>([
    [LATE.projection, [undefined, settings.dimensions]],
    ...Array.from(scorer.start(settings, 0), ([name, t]) => [LATE.scorer(name), t.dims] as const),
  ]);
  if (weights.has(LATE.queryProjection)) needed.set(LATE.queryProjection, [undefined, settings.dimensions]);
  for (const [name, dims] of needed) {
    const own = weights.get(name);
    if (!own) throw refuse(`${WEIGHTS} has no '${name}'`);
    if (
      own.dtype !== 'float32' ||
      own.dims.length !== dims.length ||
      dims.some((d, i) => d !== undefined && d !== own.dims[i])
    )
      throw refuse(`'${name}' in ${WEIGHTS} has the shape [${own.dims}] of ${own.dtype}`);
  }
  return {
    model: lateModel(settings, weights),
    file: { ...settings, reads },
    key: hashParts('multi-vector', JSON.stringify(parsed.data), bytes),
  };
}
