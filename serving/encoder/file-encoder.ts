/** @file Opens any model file of a folder as an encoder: an ONNX graph or a static table. */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { hashParts } from '../../common/files.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { weightsType } from '../../engine/io/model-file.ts';
import { type Computing, computeFile, onCpuNote } from '../../engine/runtime/provider.ts';
import { Encoder } from '../../models/encoder.ts';
import { firstPosition, hidesPadding, readModelFolder } from '../../models/model-folder.ts';
import { promptsOf, withPrompt } from '../../models/modules/prompts.ts';
import { readJson } from '../../models/modules/read-json.ts';
import { StaticEncoder } from '../../static/index.ts';

export interface FileEncoder
  extends Pick<
    Encoder,
    'dimensions' | 'encode' | 'dispose' | 'key' | 'prompts' | 'pooling' | 'batchTokens' | 'limit' | 'tokenizer'
  > {
  /** Notes on assumptions made and parts ignored when the folder was read. */
  readonly notes?: readonly string[];
  /** What vectors depend on in addition to `key` and prompts: the folder's limit, the first position, how padding is handled. */
  readonly settings: string;
  /** The type that the file's weights are stored in. */
  dtype(): Promise<string>;
}

/**
 * The type that a file's weights are stored in: as its name says (of a model in int8 the table of tokens may be float32), else the one
 * that takes most of its bytes.
 */
export async function storedType(file: string): Promise<string> {
  const suffix = /_([a-z0-9]+)\.onnx$/.exec(file)?.[1];
  const named = suffix && (TYPES[suffix] ?? (/^q\d|int\d/.test(suffix) ? suffix : undefined));
  return named || weightsType(file);
}

const TYPES: Readonly<Record<string, string>> = { fp16: 'float16', fp32: 'float32', quantized: 'int8' };

/** Tokens that a text is cut at where a static encoder's tokenizer names none. */
const STATIC_LIMIT = 512;

/**
 * @param file an .onnx file of a model folder, or a static file in a folder with a tokenizer
 * @param provider where it is to compute; the CPU by default
 * @throws InputError where it cannot be read or is not an encoder
 */
export async function openFileEncoder(file: string, provider?: Computing['provider']): Promise<FileEncoder> {
  if (!file.endsWith('.safetensors')) {
    const opened = await Encoder.load(file, { comparable: true, session: await computeFile(file, provider) });
    const note = onCpuNote(file, provider);
    const { config } = await readModelFolder(file);
    const { maxLength, similarity } = opened;
    const settings = JSON.stringify([maxLength, similarity, firstPosition(config), hidesPadding(config)]);
    return Object.assign(opened, {
      ...(note && { notes: [...opened.notes, note] }),
      settings,
      dtype: () => storedType(file),
    });
  }
  const content = await readFile(file);
  const encoder = openStatic(content, file);
  const folder = dirname(file);
  const tokenizer = await TextTokenizer.load(folder);
  const prompts = promptsOf(await readJson(join(folder, 'config_sentence_transformers.json')));
  const { dimensions } = encoder;
  const limit = (maxLength = tokenizer.modelMaxLength ?? STATIC_LIMIT): number => maxLength;
  return {
    dimensions,
    tokenizer,
    // The mean of the tokens' rows, a text at a time.
    pooling: 'mean',
    dtype: async () => 'int8',
    limit,
    batchTokens: limit(),
    key: hashParts('static', content, tokenizer.hash),
    prompts,
    settings: JSON.stringify([tokenizer.modelMaxLength]),
    async encode(texts, { maxLength, role = 'text' } = {}) {
      const text = Array.isArray(texts)
        ? (i: number) => texts[i]
        : (i: number) => (texts as { text(i: number): string }).text(i);
      const out = new Float32Array(texts.length * dimensions);
      for (let i = 0; i < texts.length; i++)
        out.set(
          encoder.embed(tokenizer.encode(withPrompt(prompts[role], text(i)), limit(maxLength)).ids),
          i * dimensions,
        );
      return out;
    },
    async dispose() {},
  };
}

/** @throws InputError where the bytes are not a static encoder */
function openStatic(content: Uint8Array, file: string): StaticEncoder {
  try {
    return new StaticEncoder(content);
  } catch (cause) {
    throw new InputError({
      code: 'encoder.static',
      subject: (cause as Error).message.replace(/^the file/, () => file),
      remedy: 'export it again: distill export --dtype static-int8',
      cause,
    });
  }
}
