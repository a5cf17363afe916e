/** @file What a model folder of sentence-transformers or transformers.js says: where the graph is, how vectors are pooled. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { InputError } from '../common/errors.ts';
import type { Watch } from '../common/progress.ts';
import type { Pooling } from '../engine/expressions/pooling.ts';
import { modelFileHash } from '../engine/io/model-file.ts';

export interface ModelFolder {
  folder: string;
  /** The .onnx file. */
  model: string;
  config: Record<string, unknown>;
  pooling: Pooling;
  normalize: boolean;
  /** The longest sequence in tokens, where some file says it. */
  maxLength: number | undefined;
}

/** Whether a name that is no path looks like `org/name`, perhaps with `@revision`. */
export const isHubName = (name: string): boolean => /^[\w-][\w.-]*\/[\w-][\w.-]*(@[\w./-]+)?$/.test(name);

/** Where a graph is looked for in a folder: whole first, then what an export may have left alone. */
const modelFiles = ['model', 'model_quantized', 'model_int8', 'model_fp16', 'model_q4'].flatMap((name) => [
  `onnx/${name}.onnx`,
  `${name}.onnx`,
]);

/**
 * @param path a model folder, one .onnx file of it where it has several, or a model's name on the Hugging Face hub
 * @throws InputError where the folder or its .onnx file is missing
 */
export async function readModelFolder(path: string, watch: Watch = {}): Promise<ModelFolder> {
  if (!existsSync(path) && isHubName(path)) {
    const { hubFolder } = await import('./hub.ts');
    return readModelFolder(await hubFolder(path, modelFiles, watch));
  }
  const single = path.endsWith('.onnx') && existsSync(path) ? path : undefined;
  const beside = dirname(path);
  const folder = single ? (basename(beside) === 'onnx' ? dirname(beside) : beside) : path;
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
  const pooling = await readJson(join(folder, '1_Pooling', 'config.json'));
  const sentence = await readJson(join(folder, 'sentence_bert_config.json'));
  const modules = await readJson(join(folder, 'modules.json'));
  const types = Array.isArray(modules) ? modules.map((m) => String((m as { type?: unknown })?.type)) : [];
  const longest = [sentence.max_seq_length, config.max_position_embeddings].find((n) => typeof n === 'number');
  return {
    folder,
    model,
    config,
    pooling: poolingOf(pooling),
    normalize: types.length ? types.some((t) => t.endsWith('Normalize')) : true,
    maxLength: longest as number | undefined,
  };
}

/** Positions that a model's config says it has: longer texts cannot be read. */
export function positionsOf(config: Record<string, unknown>): number {
  const { max_position_embeddings: stated } = config;
  return typeof stated === 'number' && stated > 0 ? stated : Number.POSITIVE_INFINITY;
}

function poolingOf(config: Record<string, unknown>): Pooling {
  const mode = String(config.pooling_mode ?? '');
  if (config.pooling_mode_cls_token || mode === 'cls') return 'cls';
  if (config.pooling_mode_max_tokens || mode === 'max') return 'max';
  if (config.pooling_mode_lasttoken || mode === 'lasttoken') return 'lasttoken';
  return 'mean';
}

/** sha256 of what a model's weights are read from: its file, and the files beside it that it names; hex. */
export const modelHash = (model: string): Promise<string> => modelFileHash(model);

/** A file's JSON; an empty object where there is no file. */
export async function readJson(file: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch {
    return {};
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError({
      code: 'model.malformed-json',
      subject: `${file} is not valid JSON (${(cause as Error).message})`,
      remedy: 'mend it or copy it again from the model',
      cause,
    });
  }
}
