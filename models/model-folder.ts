/** @file Reads a model folder of sentence-transformers or transformers.js: the path of the graph and the length limit. */
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { modelFileHash } from '../engine/io/model-file.ts';
import { readJson, readJsonValue } from './modules/read-json.ts';
import { readTransformerConfig } from './modules/transformer-config.ts';

export interface ModelFolder {
  folder: string;
  /** The .onnx file. */
  model: string;
  config: Record<string, unknown>;
  /** The longest sequence in tokens, where sentence_bert_config.json or config.json says it: the smaller of the two. */
  maxLength: number | undefined;
}

/** Whether a name that is not a path looks like `org/name`, perhaps with `@revision`. */
export const isHubName = (name: string): boolean => /^[\w-][\w.-]*\/[\w-][\w.-]*(@[\w./-]+)?$/.test(name);

/** Paths where a graph is searched in a folder: full precision first, then files that an export may have left alone. */
const modelFiles = ['model', 'model_quantized', 'model_int8', 'model_fp16', 'model_q4'].flatMap((name) => [
  `onnx/${name}.onnx`,
  `${name}.onnx`,
]);

/**
 * @param path a model folder, one .onnx file of it where it has several, or a model's name on the Hugging Face hub
 * @throws InputError where the folder or its .onnx file is missing
 */
export async function readModelFolder(path: string, watch: RunControl = {}): Promise<ModelFolder> {
  if (!existsSync(path) && isHubName(path)) {
    const { hubFolder } = await import('./hub.ts');
    return readModelFolder(await hubFolder(path, modelFiles, watch));
  }
  const single = path.endsWith('.onnx') && existsSync(path) ? path : undefined;
  const parent = dirname(path);
  const folder = single ? (basename(parent) === 'onnx' ? dirname(parent) : parent) : path;
  if (!existsSync(folder))
    throw new InputError({
      code: 'model.missing',
      subject: `there is no model folder ${folder}`,
      remedy: 'give a folder with onnx/model.onnx, tokenizer.json and config.json, or a name on the hub (org/name)',
    });
  const model = single ?? modelFiles.map((f) => join(folder, f)).find(existsSync);
  if (!model)
    throw new InputError({
      code: 'model.missing',
      subject: `${folder} has neither onnx/model.onnx nor model.onnx`,
      remedy: 'export the model to ONNX (optimum-cli export onnx) into that folder',
    });
  const config = await readJson(join(folder, 'config.json'));
  const { maxLength: stated = Number.POSITIVE_INFINITY } = await readTransformerConfig(folder);
  const maxLength = Math.min(stated, positionsOf(config));
  return { folder, model, config, maxLength: Number.isFinite(maxLength) ? maxLength : undefined };
}

type Config = Readonly<Record<string, unknown>>;

/** Families that count positions from pad_token_id + 1, by `model_type`: as many rows of their table are never read. */
export const countFromPad: ReadonlySet<string> = new Set(
  'camembert data2vec-text ernie_m esm ibert layoutlmv3 lilt longformer luke markuplm mluke mpnet roberta roberta-prelayernorm xlm-roberta xlm-roberta-xl xmod'.split(
    ' ',
  ),
);
/** Families whose first position is 2, with a table of two rows more than config.json says. */
const countFromTwo: ReadonlySet<string> = new Set(['mra', 'nystromformer', 'yoso']);

/** Families in which padding affects neighbouring tokens despite the mask (convolutions, landmarks), by `model_type`. */
const paddingReaches: ReadonlySet<string> = new Set(['convbert', 'fnet', 'funnel', 'mra', 'nystromformer', 'yoso']);

/** Whether a mask hides padding from a model; where it does not, texts of one length alone share a batch. */
export const hidesPadding = ({ model_type }: Config): boolean => !paddingReaches.has(String(model_type));

/** The position of a text's first token. @param padId where config.json does not say it */
export function firstPosition({ model_type, pad_token_id: pad }: Config, padId = 1): number {
  if (countFromTwo.has(String(model_type))) return 2;
  return countFromPad.has(String(model_type)) ? (typeof pad === 'number' ? pad : padId) + 1 : 0;
}

/** Positions that a model's config says it has: longer texts cannot be read. */
export function positionsOf(config: Config, padId = 1): number {
  const stated = [config.max_position_embeddings, config.n_positions, config.max_seq_len].find(
    (n): n is number => typeof n === 'number' && n > 0,
  );
  if (stated === undefined) return Number.POSITIVE_INFINITY;
  return Math.max(1, stated - (countFromPad.has(String(config.model_type)) ? firstPosition(config, padId) : 0));
}

/** Width of a model's token vectors, by the names that families give it; undefined where config.json does not say it. */
export const hiddenSize = (config: Config): number | undefined =>
  [config.hidden_size, config.d_model, config.dim, config.n_embd].find(
    (n): n is number => typeof n === 'number' && n > 0,
  );

/** sha256 of what a model's weights are read from: its file, and the files next to it that it names; hex. */
export const modelHash = (model: string): Promise<string> => modelFileHash(model);

export { readJson, readJsonValue };
