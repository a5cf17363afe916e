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
  const lowered = options.lowerCase === true && json !== undefined && inLowerCase(json);
  const opened = refusing(file, () =>
    openTokenizer({
      tokenizer: json,
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
  const parts = [...[...texts, ...old].map((t) => t ?? ''), kind, ...(lowered ? ['lower case'] : [])];
  return { ...opened, file, hash: hashParts(RULES, ...parts) };
}

interface Normalizer {
  type?: string;
  lowercase?: boolean;
  normalizers?: Normalizer[];
}

/**
 * Puts Lowercase in front of a tokenizer's normalizers unless one of them does it, as sentence-transformers does.
 * @param json tokenizer.json
 * @returns whether it was put there
 */
export function inLowerCase(json: { normalizer?: unknown }): boolean {
  const normalizer = json.normalizer as Normalizer | null | undefined;
  const lowers = (n: Normalizer): boolean =>
    n.type === 'Lowercase' || n.lowercase === true || (n.normalizers ?? []).some(lowers);
  if (normalizer && lowers(normalizer)) return false;
  const others = normalizer?.type === 'Sequence' ? (normalizer.normalizers ?? []) : normalizer ? [normalizer] : [];
  json.normalizer = { type: 'Sequence', normalizers: [{ type: 'Lowercase' }, ...others] };
  return true;
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
