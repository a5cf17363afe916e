/** @file Texts to token ids as Hugging Face's tokenizers do it, truncation included: special tokens are never cut off. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { InputError } from '../common/errors.ts';
import { hashParts } from '../common/files.ts';

/** One sequence with its special tokens. */
export interface Tokens {
  readonly ids: Int32Array;
  /** Segment of each token: 0, or 1 from the second text of a pair on where the tokenizer says so. */
  readonly typeIds: Int32Array;
}

export interface PairLimits {
  /** Tokens in all, special tokens included. */
  maxLength?: number;
  /** Tokens of the query alone, without special tokens; cut before `maxLength` applies. */
  maxQuery?: number;
  /** Tokens of the document alone, without special tokens. */
  maxDocument?: number;
}

/** What stands around the texts: special tokens with their segments. */
interface Template {
  before: number[];
  between: number[];
  after: number[];
  types: { before: number[]; first: number; between: number[]; second: number; after: number[] };
}

/** What is asked of a tokenizer; @huggingface/tokenizers' own answers so, others through a few lines. */
export interface RawTokenizer {
  encode(
    text: string,
    options: { text_pair?: string | null; add_special_tokens?: boolean; return_token_type_ids?: boolean },
  ): { ids: number[]; token_type_ids?: number[] };
  token_to_id?(token: string): number | undefined;
}

export interface TokenizerFacts {
  /** Of the tokenizer's content. */
  hash: string;
  padId: number;
  vocabularySize: number;
  modelMaxLength: number | undefined;
}

/** More characters than this a token are not read at first: texts are cut there and read whole only if too few tokens come. */
const CHARACTERS_A_TOKEN = 32;

export class TextTokenizer {
  /** Of the tokenizer's files. */
  readonly hash: string;
  readonly padId: number;
  /** One more than the highest id. */
  readonly vocabularySize: number;
  /** What the folder says is the longest sequence, where it says so. */
  readonly modelMaxLength: number | undefined;
  private readonly tokenizer: RawTokenizer;
  private readonly single: Template;
  private readonly pair: Template;

  private constructor(tokenizer: RawTokenizer, facts: TokenizerFacts) {
    this.tokenizer = tokenizer;
    this.hash = facts.hash;
    this.padId = facts.padId;
    this.vocabularySize = facts.vocabularySize;
    this.modelMaxLength = facts.modelMaxLength;
    this.single = this.template(false);
    this.pair = this.template(true);
  }

  /** A tokenizer object in hand. @throws Error where its special tokens change the tokens of a text */
  static of(tokenizer: RawTokenizer, facts: TokenizerFacts): TextTokenizer {
    return new TextTokenizer(tokenizer, facts);
  }

  /**
   * Reads tokenizer.json and tokenizer_config.json of a model folder.
   * @throws InputError where a file is missing or no tokenizer
   */
  static async load(folder: string): Promise<TextTokenizer> {
    const file = join(folder, 'tokenizer.json');
    const text = await readText(file);
    if (text === undefined)
      throw new InputError({
        code: 'tokenizer.missing',
        subject: `${folder} has no tokenizer.json`,
        remedy: "save the model's fast tokenizer there (tokenizer.save_pretrained)",
      });
    const configText = (await readText(join(folder, 'tokenizer_config.json'))) ?? '{}';
    const json = parse(text, file) as { added_tokens?: { content: string; special?: boolean }[] };
    const config = parse(configText, join(folder, 'tokenizer_config.json')) as Record<string, unknown>;
    try {
      const max = config.model_max_length;
      const pad = config.pad_token;
      const padToken = typeof pad === 'string' ? pad : ((pad as { content?: string })?.content ?? '[PAD]');
      const tokenizer = new Tokenizer(json, config);
      let highest = -1;
      for (const id of tokenizer.get_vocab(true).values()) highest = Math.max(highest, id);
      return new TextTokenizer(tokenizer, {
        hash: hashParts(text, configText),
        padId: tokenizer.token_to_id(padToken) ?? 0,
        vocabularySize: highest + 1,
        modelMaxLength: typeof max === 'number' && max < 1e6 ? max : undefined,
      });
    } catch (cause) {
      throw new InputError({
        code: 'tokenizer.malformed',
        subject: `${file} is no tokenizer that can be read (${(cause as Error).message})`,
        remedy: 'save it again with a recent version of tokenizers',
        cause,
      });
    }
  }

  idOf(token: string): number | undefined {
    return this.tokenizer.token_to_id?.(token);
  }

  /** Token ids without special tokens. @param limit only the first so many are wanted */
  plain(text: string, limit = Number.POSITIVE_INFINITY): number[] {
    const wellFormed = text.toWellFormed();
    const enough = limit * CHARACTERS_A_TOKEN;
    if (wellFormed.length > 2 * enough) {
      // The cut stands before a space, so that no word of the part is other than in the whole.
      const space = wellFormed.lastIndexOf(' ', enough);
      const part =
        space > 0 ? this.tokenizer.encode(wellFormed.slice(0, space), { add_special_tokens: false }).ids : [];
      if (part.length >= limit) return part.slice(0, limit);
    }
    const { ids } = this.tokenizer.encode(wellFormed, { add_special_tokens: false });
    return ids.length > limit ? ids.slice(0, limit) : ids;
  }

  /** How many special tokens stand around one text. */
  get specialTokens(): number {
    return this.single.before.length + this.single.after.length;
  }

  /** The special tokens that stand around one text. */
  get around(): { before: readonly number[]; after: readonly number[] } {
    return this.single;
  }

  /** @param maxLength tokens in all, special tokens included */
  encode(text: string, maxLength = this.modelMaxLength ?? 512): Tokens {
    return this.wrap(this.plain(text, Math.max(0, maxLength - this.specialTokens)));
  }

  /** One text's tokens with the special tokens around. */
  wrap(ids: readonly number[]): Tokens {
    return assemble(this.single, ids, undefined);
  }

  encodePair(query: string, document: string, limits: PairLimits = {}): Tokens {
    const { before, between, after } = this.pair;
    const maxLength = limits.maxLength ?? this.modelMaxLength ?? 512;
    const room = Math.max(0, maxLength - before.length - between.length - after.length);
    const first = this.plain(query, Math.min(limits.maxQuery ?? room, room));
    const second = this.plain(document, Math.min(limits.maxDocument ?? room, room));
    const [n1, n2] = longestFirst(first.length, second.length, room);
    return assemble(this.pair, first.slice(0, n1), second.slice(0, n2));
  }

  /** Finds what stands around texts by looking at what is put around two known ones. */
  private template(isPair: boolean): Template {
    const [a, b] = ['a', 'b'].map((t) => this.tokenizer.encode(t, { add_special_tokens: false }).ids);
    const whole = this.tokenizer.encode('a', {
      text_pair: isPair ? 'b' : null,
      add_special_tokens: true,
      return_token_type_ids: true,
    });
    const { ids } = whole;
    const types = whole.token_type_ids ?? ids.map(() => 0);
    const at = find(ids, a, 0);
    const second = isPair ? find(ids, b, at + a.length) : ids.length;
    const end = isPair ? second + b.length : at + a.length;
    const between = isPair ? [at + a.length, second] : [end, end];
    return {
      before: ids.slice(0, at),
      between: ids.slice(between[0], between[1]),
      after: ids.slice(end),
      types: {
        before: types.slice(0, at),
        first: types[at] ?? 0,
        between: types.slice(between[0], between[1]),
        second: types[second] ?? 0,
        after: types.slice(end),
      },
    };
  }
}

function find(ids: readonly number[], part: readonly number[], from: number): number {
  for (let i = from; i + part.length <= ids.length; i++) if (part.every((id, k) => ids[i + k] === id)) return i;
  throw new Error('its special tokens change the tokens of a text');
}

function assemble(t: Template, first: readonly number[], second: readonly number[] | undefined): Tokens {
  const ids = [...t.before, ...first, ...t.between, ...(second ?? []), ...t.after];
  const typeIds = new Int32Array(ids.length);
  let at = 0;
  const put = (types: readonly number[]): void => {
    typeIds.set(types, at);
    at += types.length;
  };
  put(t.types.before);
  typeIds.fill(t.types.first, at, at + first.length);
  at += first.length;
  put(t.types.between);
  if (second) {
    typeIds.fill(t.types.second, at, at + second.length);
    at += second.length;
  }
  put(t.types.after);
  return { ids: Int32Array.from(ids), typeIds };
}

/**
 * How much of each text of a pair stays: the longer one gives way first.
 * @source truncation strategy `longest_first` of Hugging Face's tokenizers
 */
export function longestFirst(first: number, second: number, room: number): [number, number] {
  if (first + second <= room) return [first, second];
  let [short, long] = first > second ? [second, first] : [first, second];
  long = short > room ? short : Math.max(short, room - short);
  if (short + long > room) {
    short = Math.floor(room / 2);
    long = short + (room % 2);
  }
  return first > second ? [long, short] : [short, long];
}

async function readText(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8');
  } catch {
    return undefined;
  }
}

function parse(text: string, file: string): object {
  try {
    const value = JSON.parse(text);
    if (value && typeof value === 'object' && !Array.isArray(value)) return value;
  } catch {}
  throw new InputError({
    code: 'tokenizer.malformed',
    subject: `${file} is no JSON object`,
    remedy: 'save the tokenizer again',
  });
}
