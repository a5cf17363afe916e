/** @file What sentence-transformers' module Transformer of a folder is told: how long texts are, their case, and how they are processed. */
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { readJson } from './read-json.ts';

/** Names of the file, in the order in which sentence-transformers looks for them. */
export const transformerFiles: readonly string[] = [
  'bert',
  'roberta',
  'distilbert',
  'camembert',
  'albert',
  'xlm-roberta',
  'xlnet',
].map((family) => `sentence_${family}_config.json`);

export interface TransformerConfig {
  /** Tokens a text, special tokens included; undefined where it is not said. */
  maxLength: number | undefined;
  /** Whether texts are put in lower case first. */
  lowerCase: boolean;
  /** What the model is loaded for: `feature-extraction` where it is not said. */
  task: string;
  /** Whether a text or pair becomes messages of a chat template. */
  messages: boolean;
  chat: ChatOptions;
}

/** What a chat template is given in addition to messages: `add_generation_prompt` and variables of its own. */
export interface ChatOptions extends Readonly<Record<string, unknown>> {
  /** Whether the content of a message is a text or a list of parts. */
  format: 'flat' | 'structured';
}

type Fields = Readonly<Record<string, unknown>>;

/** Options of a call of the tokenizer that change no token of a text. */
const harmless: Readonly<Record<string, readonly unknown[]>> = {
  padding: [true, 'longest', 'max_length'],
  padding_side: ['left', 'right'],
  pad_to_multiple_of: [null, 8, 16, 32, 64],
  truncation: [true, 'longest_first'],
  return_tensors: ['pt', 'np'],
  add_special_tokens: [true],
  return_attention_mask: [true],
};
/** Options of opening a tokenizer that say where it is found. */
const finding: ReadonlySet<string> = new Set(
  'cache_dir force_download local_files_only proxies resume_download revision subfolder token trust_remote_code use_auth_token use_fast padding_side'.split(
    ' ',
  ),
);

/** @throws InputError that names an option which changes texts or vectors and is not understood */
export async function readTransformerConfig(folder: string): Promise<TransformerConfig> {
  let file = '';
  let config: Fields = {};
  for (const name of transformerFiles) {
    file = join(folder, name);
    config = await readJson(file);
    if (Object.keys(config).length) break;
  }
  const refuse = (subject: string, expected?: string): InputError =>
    new InputError({
      code: 'model.transformer',
      subject: `${file}: ${subject}`,
      expected,
      remedy: 'use a model without it, or save the model again so that texts are read without it',
    });
  const length = (value: unknown, name: string): number | undefined => {
    if (value === undefined || value === null) return undefined;
    if (typeof value !== 'number' || !(value >= 1)) throw refuse(`${name} is ${JSON.stringify(value)}`, 'tokens');
    return value < 1e6 ? Math.floor(value) : undefined;
  };
  const { modality_config: modalities, processing_kwargs: processing } = config as Record<string, Fields | undefined>;
  const opening = (config.processor_kwargs ?? config.tokenizer_args ?? {}) as Fields;
  for (const [key, value] of Object.entries(opening))
    if (key !== 'model_max_length' && !finding.has(key) && value !== null)
      throw refuse(`the tokenizer is opened with ${key} ${JSON.stringify(value)}, which is not understood`);
  if (typeof config.tokenizer_name_or_path === 'string')
    throw refuse(`its tokenizer is that of '${config.tokenizer_name_or_path}'`, 'the tokenizer in the folder');
  const limits = [length(opening.model_max_length ?? config.max_seq_length, 'max_seq_length')];
  for (const part of ['common', 'text', 'chat_template'])
    for (const [key, value] of Object.entries((processing?.[part] ?? {}) as Fields))
      if (key === 'max_length') limits.push(length(value, `processing_kwargs.${part}.max_length`));
      else if (!harmless[key]?.includes(value) && (part !== 'chat_template' || Object.hasOwn(harmless, key)))
        throw refuse(`processing_kwargs has ${part}.${key} ${JSON.stringify(value)}, which is not understood`);
  const stated = limits.filter((n) => n !== undefined);
  return {
    maxLength: stated.length ? Math.min(...stated) : undefined,
    lowerCase: config.do_lower_case === true,
    task: String(config.transformer_task ?? 'feature-extraction'),
    messages: modalities?.message !== undefined,
    chat: chatOptions(config, refuse),
  };
}

/** By default sentence-transformers adds no generation prompt; a folder that it did not write is asked for an answer. */
function chatOptions(config: Fields, refuse: (s: string, e?: string) => InputError): ChatOptions {
  const { modality_config: modalities, processing_kwargs: processing } = config as Record<string, Fields | undefined>;
  const format = (modalities?.message as Fields | undefined)?.format ?? 'flat';
  if (format !== 'flat' && format !== 'structured')
    throw refuse(`its messages have the format '${format}'`, 'flat, structured');
  const { restore_suffix: restored = true, ...stated } = (processing?.chat_template ?? {}) as Fields;
  if (restored !== true) throw refuse('processing_kwargs has chat_template.restore_suffix false');
  const own = Object.keys(config).length > 0;
  return { format, add_generation_prompt: !own, ...stated };
}

/** @throws InputError where the module gives anything but the vectors of a text's tokens */
export async function encoderConfig(folder: string): Promise<TransformerConfig> {
  const config = await readTransformerConfig(folder);
  const what =
    config.task !== 'feature-extraction'
      ? `is loaded for ${config.task}`
      : config.messages && 'puts texts into a chat template';
  if (!what) return config;
  throw new InputError({
    code: 'model.transformer',
    subject: `the module Transformer of ${folder} ${what}`,
    expected: 'feature-extraction of texts',
    remedy: 'give a dual-encoder that reads texts as they are',
  });
}
