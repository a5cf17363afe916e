/** @file The files of a folder that make its tokenizer, and refusals as sentences that name the file. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { hashParts } from '../../common/files.ts';
import { type Fields, TokenizerRefusal } from './base/fields.ts';
import { type OpenedTokenizer, openTokenizer } from './folder.ts';

/** Files of other libraries' tokenizers: sentencepiece under all its names, tiktoken, Mistral's, fastBPE. */
const otherFiles: readonly string[] =
  'sentencepiece.bpe.model spiece.model sentencepiece.model tokenizer.model spm.model spm_char.model source.spm target.spm vocab.spm tokenizer.tiktoken qwen.tiktoken tekken.json tokenizer.bpe.model bpe.codes vocab.bpe encoder.json'.split(
    ' ',
  );

/** Raised when the same files give other tokens than before: scores and vectors of earlier tokens are not taken up. */
const RULES = 'tokens 2';

/**
 * Opens the tokenizer of a model folder.
 * @throws InputError where a file is missing, malformed, or asks for what is not supported
 */
export async function openFolder(
  folder: string,
  options: { lowerCase?: boolean } = {},
): Promise<OpenedTokenizer & { hash: string; file: string }> {
  const names = ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'added_tokens.json'];
  const texts = await Promise.all(names.map((name) => readText(join(folder, name))));
  const [json, config, special, added] = texts.map((text, i) =>
    text === undefined ? undefined : parse(text, join(folder, names[i])),
  );
  const old = json
    ? []
    : await Promise.all(['vocab.txt', 'vocab.json', 'merges.txt'].map((n) => readText(join(folder, n))));
  const [vocabTxt, vocabJson, merges] = old;
  if (!json && vocabTxt === undefined && vocabJson === undefined) {
    const other = otherFiles.find((name) => existsSync(join(folder, name)));
    throw new InputError({
      code: 'tokenizer.missing',
      subject: `${folder} has no tokenizer.json${other ? `, and its ${other} is not read` : ''}`,
      remedy:
        "save the model's fast tokenizer there with transformers (AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER))",
    });
  }
  const modelText = config?.tokenizer_class === undefined ? await readText(join(folder, 'config.json')) : undefined;
  const model = modelText === undefined ? undefined : parse(modelText, join(folder, 'config.json'));
  const file = json ? join(folder, names[0]) : folder;
  const opened = refusing(file, () =>
    openTokenizer({
      tokenizer: json,
      lowerCase: options.lowerCase,
      config: config ?? {},
      specialTokens: special,
      addedTokens: added,
      model,
      vocabTxt,
      merges,
      vocabJson: vocabJson === undefined ? undefined : parse(vocabJson, join(folder, 'vocab.json')),
    }),
  );
  const kind = model ? `${model.tokenizer_class} ${model.model_type}` : '';
  const parts = [...[...texts, ...old].map((t) => t ?? ''), kind, ...(opened.lowered ? ['lower case'] : [])];
  return { ...opened, file, hash: hashParts(RULES, ...parts) };
}

/** A folder's tokenizer.json; where it has none, what its older files make. @throws InputError as openFolder */
export async function wholeTokenizer(folder: string): Promise<Fields> {
  const text = await readText(join(folder, 'tokenizer.json'));
  return text === undefined ? (await openFolder(folder)).json : parse(text, join(folder, 'tokenizer.json'));
}

/** Runs what reads or uses a tokenizer; what it refuses becomes one sentence that names the file. */
export function refusing<T>(file: string, work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    if (cause instanceof TokenizerRefusal)
      throw new InputError({
        code: cause.code,
        subject: `the tokenizer ${file} cannot be read: ${cause.message}`,
        remedy: cause.remedy,
        cause,
      });
    if (cause instanceof RangeError)
      throw new InputError({
        code: 'tokenizer.malformed',
        subject: `the tokenizer ${file} cannot be read: it is nested too deeply or too large (${cause.message})`,
        remedy: 'save it again with a recent version of tokenizers',
        cause,
      });
    throw cause;
  }
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new InputError({
      code: 'tokenizer.unreadable',
      subject: `${file} cannot be read (${code ?? (cause as Error).message})`,
      remedy: 'make it a file that this user may read',
      cause,
    });
  }
}

function parse(text: string, file: string): Fields {
  try {
    const value = JSON.parse(text);
    if (value && typeof value === 'object' && !Array.isArray(value)) return value;
  } catch {}
  throw new InputError({
    code: 'tokenizer.malformed',
    subject: `${file} is not a JSON object`,
    remedy: 'save the tokenizer again',
  });
}
