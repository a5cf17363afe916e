/** @file Texts to token ids as Hugging Face's tokenizers do it, truncation included: special tokens are never cut off. */
import { InputError } from '../common/errors.ts';
import type { TokenizerPipeline } from './tokens/pipeline.ts';
import type { Part, Templates } from './tokens/post-processor.ts';
import { openFolder, refusing } from './tokens/read-files.ts';
import {
  cutIds,
  longestFirst,
  readTokens,
  type Side,
  specialCount,
  type TruncationStrategy,
} from './tokens/truncation.ts';

/** One sequence with its special tokens. */
export interface Tokens {
  readonly ids: Int32Array;
  /** Segment of each token: 0, or 1 from the second text of a pair on where the tokenizer says so. */
  readonly typeIds: Int32Array;
}

/** A token of a text, as text-embeddings-inference describes one. */
export interface TextToken {
  id: number;
  /** What it stands for in the text; of a special token and where that is not certain, the vocabulary's name of it. */
  text: string;
  /** Whether it was put around the text. */
  special: boolean;
  /** Begin and end in the text in characters (code points); null for special tokens, and where they are not certain. */
  start: number | null;
  stop: number | null;
}

/** Maximum tokens of a pair and of its parts. */
export interface PairLimits {
  /** Tokens in all, special tokens included. */
  maxLength?: number;
  /** Tokens of the query alone, without special tokens; cut before `maxLength` applies. */
  maxQuery?: number;
  /** Tokens of the document alone, without special tokens. */
  maxDocument?: number;
  /** Which text is truncated if both together are too long; `longest_first` by default. */
  strategy?: TruncationStrategy;
}

/** The interface of an external tokenizer, such as one of transformers.js. */
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
  /** Side of truncation; `right` by default. */
  truncationSide?: Side;
  /** Side of padding; `right` by default. */
  paddingSide?: Side;
}

interface Source {
  /** Ids of a well-formed text, including special tokens in it, without adding any around it. */
  encode(text: string): readonly number[];
  idOf(token: string): number | undefined;
  /** Absent for a tokenizer object in hand. */
  pipeline?: TokenizerPipeline;
  file?: string;
  templates: Templates;
}

/** A model's tokenizer: texts and pairs to token ids and types, cut as Hugging Face's library cuts. */
export class TextTokenizer {
  /** Of the tokenizer's files and of the rules by which they are read. */
  readonly hash: string;
  readonly padId: number;
  /** One more than the highest id. */
  readonly vocabularySize: number;
  /** The folder's maximum sequence length, where given. */
  readonly modelMaxLength: number | undefined;
  /** Side on which long texts are truncated. */
  readonly truncationSide: Side;
  /** Side of padding given by the folder. */
  readonly paddingSide: Side;
  private readonly source: Source;

  private constructor(source: Source, facts: TokenizerFacts) {
    this.source = source;
    this.hash = facts.hash;
    this.padId = facts.padId;
    this.vocabularySize = facts.vocabularySize;
    this.modelMaxLength = facts.modelMaxLength;
    this.truncationSide = facts.truncationSide ?? 'right';
    this.paddingSide = facts.paddingSide ?? 'right';
  }

  /** A tokenizer object in hand. @throws Error where its special tokens change the tokens of a text */
  static of(tokenizer: RawTokenizer, facts: TokenizerFacts): TextTokenizer {
    const source: Source = {
      encode: (text) => tokenizer.encode(text, { add_special_tokens: false }).ids,
      idOf: (token) => tokenizer.token_to_id?.(token),
      templates: { single: templateOf(tokenizer, false), pair: templateOf(tokenizer, true) },
    };
    return new TextTokenizer(source, facts);
  }

  /**
   * Opens a model folder's tokenizer: tokenizer.json (or vocab.txt, or vocab.json and merges.txt, of BERT's and RoBERTa's
   * kinds), tokenizer_config.json and its special tokens, as transformers 4.57 reads them. It is tested on difficult
   * texts immediately.
   * @param options.lowerCase whether texts are put in lower case first, as sentence-transformers' do_lower_case says
   * @throws InputError where a file is missing or malformed, or a component or option of it is not supported
   */
  static async load(folder: string, options: { lowerCase?: boolean } = {}): Promise<TextTokenizer> {
    const opened = await openFolder(folder, options);
    const { pipeline, file } = opened;
    const source: Source = {
      encode: (text) => refusing(file, () => pipeline.encode(text)),
      idOf: (token) => pipeline.idOf(token),
      pipeline,
      file,
      templates: opened.templates,
    };
    return new TextTokenizer(source, { ...opened, vocabularySize: pipeline.highestId() + 1 });
  }

  /** The id of a token; undefined where the vocabulary has none. */
  idOf(token: string): number | undefined {
    return this.source.idOf(token);
  }

  /** Token ids without special tokens around. @param limit so many are kept, cut at the tokenizer's side */
  plain(text: string, limit = Number.POSITIVE_INFINITY): number[] {
    const ids = readTokens(text, limit, this.truncationSide, this.source.encode);
    return ids as number[];
  }

  /**
   * Tokens of a whole text with their places in it, as tokenizers has them: not cut. Places are exact or null. They are not certain
   * where Unicode normal forms join or reorder several marks, and where the library itself counts a place that is not the token's.
   * @param specialTokens whether those around the text are given too
   * @throws InputError where the tokenizer was not read from a folder
   */
  tokensOf(text: string, specialTokens = true): TextToken[] {
    const { pipeline, file } = this.opened('tokens');
    const given = text.toWellFormed();
    const { ids, spans, tokens } = refusing(file, () => pipeline.locate(given));
    const characters = Array.from(given);
    const own = ids.map((id, i): TextToken => {
      const [start, stop] = spans.slice(2 * i, 2 * i + 2);
      if (start < 0) return { id, text: tokens[i], special: false, start: null, stop: null };
      return { id, text: characters.slice(start, stop).join(''), special: false, start, stop };
    });
    if (!specialTokens) return own;
    const around = (id: number): TextToken => ({
      id,
      text: pipeline.tokenOf(id) ?? '',
      special: true,
      start: null,
      stop: null,
    });
    return this.source.templates.single.flatMap((p) => (p.text === undefined ? p.ids.map(around) : own));
  }

  /**
   * The text that some ids stand for, as tokenizers' decode.
   * @param skipSpecial leaves special tokens out
   * @throws InputError where the decoder of the tokenizer is not known, or it was not read from a folder
   */
  decode(ids: readonly number[], skipSpecial = true): string {
    const { pipeline, file } = this.opened('texts');
    return refusing(file, () => pipeline.decode(ids, skipSpecial));
  }

  private opened(what: string): { pipeline: TokenizerPipeline; file: string } {
    const { pipeline, file } = this.source;
    if (pipeline && file !== undefined) return { pipeline, file };
    throw new InputError({
      code: 'tokenizer.object',
      subject: `${what} are asked of a tokenizer object, which gives ids alone`,
      remedy: 'load the tokenizer from its folder',
    });
  }

  /** Number of special tokens around one text. */
  get specialTokens(): number {
    return specialCount(this.source.templates.single);
  }

  /** The special tokens around one text. */
  get around(): { before: readonly number[]; after: readonly number[] } {
    const { single } = this.source.templates;
    const at = single.findIndex((p) => p.text === 0);
    const idsOf = (parts: readonly Part[]): number[] => parts.flatMap((p) => p.ids);
    return { before: idsOf(single.slice(0, at)), after: idsOf(single.slice(at + 1)) };
  }

  /** Token ids and types of a text, special tokens included. @param maxLength most tokens; a longer text is cut */
  encode(text: string, maxLength = this.modelMaxLength ?? 512): Tokens {
    return this.wrap(this.plain(text, Math.max(0, maxLength - this.specialTokens)));
  }

  /** One text's tokens with the special tokens around. */
  wrap(ids: readonly number[]): Tokens {
    return assemble(this.source.templates.single, [ids, []]);
  }

  /**
   * Token ids and types of a pair, special tokens included.
   * @throws InputError where a strategy that cuts one text alone finds it too short
   */
  encodePair(query: string, document: string, limits: PairLimits = {}): Tokens {
    const { pair } = this.source.templates;
    const maxLength = limits.maxLength ?? this.modelMaxLength ?? 512;
    const room = Math.max(0, maxLength - specialCount(pair));
    const most = [limits.maxQuery ?? Number.POSITIVE_INFINITY, limits.maxDocument ?? Number.POSITIVE_INFINITY];
    const texts = [query, document];
    const strategy = limits.strategy ?? 'longest_first';
    // Which of two texts is longer counts even where both are longer than the room.
    const read = (limit: number): number[][] => texts.map((text, i) => this.plain(text, Math.min(most[i], limit)));
    let limit = strategy === 'longest_first' ? room + 1 : Number.POSITIVE_INFINITY;
    let [first, second] = read(limit);
    while (room % 2 && first.length >= limit && second.length >= limit && (most[0] > limit || most[1] > limit)) {
      limit *= 4;
      [first, second] = read(limit);
    }
    const [n1, n2] = kept(first.length, second.length, room, strategy);
    const side = this.truncationSide;
    return assemble(pair, [cutIds(first, n1, side), cutIds(second, n2, side)]);
  }
}

function kept(first: number, second: number, room: number, strategy: TruncationStrategy): [number, number] {
  if (strategy === 'longest_first') return longestFirst(first, second, room);
  const over = first + second - room;
  if (over <= 0) return [first, second];
  const target = strategy === 'only_first' ? first : second;
  if (target <= over)
    throw new InputError({
      code: 'tokenizer.too-short',
      subject: `a pair is ${over} tokens too long, and the ${strategy === 'only_first' ? 'first' : 'second'} text has ${target}`,
      remedy: 'cut both texts (longest_first) or raise maxLength',
    });
  return strategy === 'only_first' ? [first - over, second] : [first, second - over];
}

/** Finds the special tokens around texts by encoding two known ones. */
function templateOf(tokenizer: RawTokenizer, isPair: boolean): Part[] {
  const [a, b] = ['a', 'b'].map((t) => tokenizer.encode(t, { add_special_tokens: false }).ids);
  const whole = tokenizer.encode('a', {
    text_pair: isPair ? 'b' : null,
    add_special_tokens: true,
    return_token_type_ids: true,
  });
  const { ids } = whole;
  const types = whole.token_type_ids ?? ids.map(() => 0);
  const specials = (from: number, to: number): Part[] =>
    ids.slice(from, to).map((id, i) => ({ ids: [id], type: types[from + i] }));
  const at = find(ids, a, 0);
  const parts: Part[] = [...specials(0, at), { text: 0, ids: [], type: types[at] ?? 0 }];
  if (!isPair) return [...parts, ...specials(at + a.length, ids.length)];
  const second = find(ids, b, at + a.length);
  return [
    ...parts,
    ...specials(at + a.length, second),
    { text: 1, ids: [], type: types[second] ?? 0 },
    ...specials(second + b.length, ids.length),
  ];
}

function find(ids: readonly number[], part: readonly number[], from: number): number {
  for (let i = from; i + part.length <= ids.length; i++) if (part.every((id, k) => ids[i + k] === id)) return i;
  throw new Error('its special tokens change the tokens of a text');
}

/** A template with its texts' tokens in their places. */
function assemble(parts: readonly Part[], texts: readonly [readonly number[], readonly number[]]): Tokens {
  const own = (part: Part): readonly number[] => (part.text === undefined ? part.ids : texts[part.text]);
  const size = parts.reduce((n, part) => n + own(part).length, 0);
  const ids = new Int32Array(size);
  const typeIds = new Int32Array(size);
  let at = 0;
  for (const part of parts) {
    const found = own(part);
    ids.set(found, at);
    typeIds.fill(part.type, at, at + found.length);
    at += found.length;
  }
  return { ids, typeIds };
}
