/** @file Writes a student as a folder that sentence-transformers, transformers.js and @xenova/transformers load. */
import { existsSync } from 'node:fs';
import { copyFile, link, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FaultError, InputError } from '../common/errors.ts';
import { replaceFolder } from '../common/replace.ts';
import { TextTokenizer } from '../data/tokenizer.ts';
import { inLowerCase } from '../data/tokens/classes.ts';
import { wholeTokenizer } from '../data/tokens/read-files.ts';
import { transformerFiles } from './modules/transformer-config.ts';
import { type SentenceModel, sentenceFiles } from './modules/write-modules.ts';

export interface Checkpoint extends SentenceModel {
  /** The bytes of onnx/model.onnx; absent where the only models are among `files`. */
  model?: Uint8Array;
  /** Folder that tokenizer files are copied from, as far as `files` has none of the name. */
  tokenizerFrom: string;
  /** The hash of the tokenizer that was opened there; if it has changed, writing is refused. */
  tokenizer?: string;
  /** Tokenizer files that are not copied. */
  withoutTokenizerFiles?: readonly string[];
  /** Further files by their path in the folder. The same array under two paths is stored once where links can be made. */
  files?: ReadonlyMap<string, Uint8Array | string>;
  /** config.json. */
  config: Record<string, unknown>;
  /** distill.json: what made it. */
  provenance: Record<string, unknown>;
  /** README.md: the model card. */
  card: string;
}

const tokenizerFiles = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'vocab.txt',
  'vocab.json',
  'merges.txt',
  'sentencepiece.bpe.model',
  'added_tokens.json',
];

/** @throws InputError if the folder contains something other than a checkpoint of this toolkit */
export async function refuseOccupied(folder: string): Promise<void> {
  if (existsSync(folder) && (await readdir(folder)).length && !existsSync(join(folder, 'distill.json')))
    throw new InputError({
      code: 'checkpoint.occupied',
      subject: `${folder} holds something else`,
      expected: 'an empty folder or a checkpoint made by distill',
      remedy: 'choose another output folder',
    });
}

/**
 * Writes the folder to a temporary path and swaps it in.
 * @throws InputError if the folder contains something other than a checkpoint of this toolkit
 */
export async function writeCheckpoint(folder: string, checkpoint: Checkpoint): Promise<void> {
  await refuseOccupied(folder);
  const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;
  try {
    await replaceFolder(folder, async (temporary) => {
      await mkdir(join(temporary, 'onnx'));
      if (checkpoint.model) await writeFile(join(temporary, 'onnx', 'model.onnx'), checkpoint.model);
      await copyTokenizer(checkpoint.tokenizerFrom, temporary, checkpoint.withoutTokenizerFiles);
      await writeFile(join(temporary, 'config.json'), json(checkpoint.config));
      await writeFiles(temporary, sentenceFiles(checkpoint));
      await writeFile(join(temporary, 'README.md'), checkpoint.card);
      await writeFiles(temporary, checkpoint.files ?? new Map());
      await checkTokenizer(temporary, checkpoint);
      await completeTokenizer(temporary, checkpoint.lowerCase);
      await writeFile(join(temporary, 'distill.json'), json(checkpoint.provenance));
    });
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw new FaultError({
      code: 'checkpoint.write-failed',
      subject: `cannot write the checkpoint ${folder} (${(cause as NodeJS.ErrnoException).code ?? (cause as Error).message})`,
      remedy: 'free space or choose another folder and run the same command again',
      cause,
    });
  }
}

/** A tokenizer that was removed or damaged since the model was opened must not lead to a checkpoint without one. */
async function checkTokenizer(
  folder: string,
  { tokenizerFrom: from, tokenizer, lowerCase }: Checkpoint,
): Promise<void> {
  const refuse = (why: string, cause?: unknown): InputError =>
    new InputError({
      code: 'checkpoint.tokenizer',
      subject: `the tokenizer of ${from} cannot be copied: ${why}`,
      remedy: 'restore its files and run the same command again: the training is kept',
      cause,
    });
  const { hash } = await TextTokenizer.load(folder, { lowerCase }).catch((cause: Error) => {
    throw refuse(cause.message.replaceAll(folder, from), cause);
  });
  if (tokenizer !== undefined && hash !== tokenizer) throw refuse('its files have changed since it was opened');
}

/**
 * What loaders of JavaScript read, who know tokenizer.json alone: it is written where a folder has older files, and the lower case of
 * sentence_bert_config.json is put into it.
 */
export async function completeTokenizer(folder: string, lowerCase = false): Promise<void> {
  const file = join(folder, 'tokenizer.json');
  const whole = existsSync(file);
  const json = await wholeTokenizer(folder);
  const lowered = lowerCase && inLowerCase(json);
  if (!whole || lowered) await writeFile(file, JSON.stringify(json));
}

/** Copies the files of a folder that make its tokenizer. */
export async function copyTokenizer(from: string, to: string, without: readonly string[] = []): Promise<void> {
  for (const name of tokenizerFiles)
    if (existsSync(join(from, name)) && !without.includes(name)) await copyFile(join(from, name), join(to, name));
}

/** Copies what sentence-transformers' files say of a re-ranker's texts: prompts, case and length. */
export async function copyTextConfig(from: string, to: string): Promise<void> {
  for (const name of ['config_sentence_transformers.json', ...transformerFiles])
    if (existsSync(join(from, name))) await copyFile(join(from, name), join(to, name));
}

async function writeFiles(folder: string, files: ReadonlyMap<string, Uint8Array | string>): Promise<void> {
  const first = new Map<Uint8Array, string>();
  for (const [name, content] of files) {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    const same = typeof content === 'string' ? undefined : first.get(content);
    const linked =
      same &&
      (await link(same, path).then(
        () => true,
        () => false,
      ));
    if (!linked) {
      await rm(path, { force: true });
      await writeFile(path, content);
    }
    if (typeof content !== 'string') first.set(content, path);
  }
}

/** The newest opset that @xenova/transformers 2.17 loads, whose runtime is ONNX Runtime 1.14. */
const NEWEST_FOR_XENOVA = 18;

/** A sentence where a saved graph is too new for a loader that checkpoints are meant for. */
export const opsetWarning = (opset: number): string | undefined =>
  opset > NEWEST_FOR_XENOVA
    ? `its graph has opset ${opset}: @xenova/transformers 2.17 loads up to ${NEWEST_FOR_XENOVA}; 'distill export --opset ${NEWEST_FOR_XENOVA}' writes one that it loads (@huggingface/transformers 3 and later load both)`
    : undefined;

/** config.json of a student cut to fewer layers; families call the count by different names. */
export function configWithLayers(config: Record<string, unknown>, layers: number | undefined): Record<string, unknown> {
  const copy = { ...config };
  if (layers !== undefined)
    for (const key of ['num_hidden_layers', 'n_layers', 'num_layers', 'n_layer']) if (key in copy) copy[key] = layers;
  return copy;
}
