/** @file Tokens added to the model's vocabulary, found in a text before anything else is done with it. */
import { type Fields, fieldsOf, flag, HIGHEST_ID, malformed, shown, text, unsupported } from './base/fields.ts';
import { Trie } from './base/trie.ts';
import { characterKinds, codePointBefore, SPACE, WORD } from './base/unicode.ts';
import type { TokenModel } from './models/ids.ts';
import type { Normalizer } from './text/normalizers.ts';

export interface AddedToken {
  readonly content: string;
  /** Matches only where no word character is next to it. */
  readonly singleWord: boolean;
  /** Consumes the spaces before it. */
  readonly lstrip: boolean;
  /** Consumes the spaces after it. */
  readonly rstrip: boolean;
  /** Looked for, itself normalised, in the normalised text. */
  readonly normalized: boolean;
  readonly special: boolean;
}

/** @param special what it is where the fields do not say */
export function readAddedToken(value: unknown, what: string, special = false): AddedToken {
  const fields: Fields = fieldsOf(value, what);
  const content = text(fields, 'content', what);
  const isSpecial = flag(fields, 'special', what, special);
  return {
    content,
    singleWord: flag(fields, 'single_word', what, false),
    lstrip: flag(fields, 'lstrip', what, false),
    rstrip: flag(fields, 'rstrip', what, false),
    normalized: flag(fields, 'normalized', what, !isSpecial),
    special: isSpecial,
  };
}

/** A part of a text: an added token, or the text between tokens. */
export interface Section {
  readonly from: number;
  readonly to: number;
  /** -1 between tokens. */
  readonly id: number;
}

const equal = (a: AddedToken, b: AddedToken): boolean =>
  (Object.keys(a) as (keyof AddedToken)[]).every((key) => a[key] === b[key]);

/** @source tokenizer/added_vocabulary.rs of Hugging Face's tokenizers 0.22 */
export class AddedTokens {
  private readonly ids = new Map<string, number>();
  private readonly byId = new Map<number, AddedToken>();
  /** Each special content as it was first given, and each other token every time it was given. */
  private readonly special = new Map<string, AddedToken>();
  private readonly others: AddedToken[] = [];
  private readonly model: TokenModel;
  private readonly normalizer: Normalizer;
  private raw: Finder | undefined;
  private inNormalized: Finder | undefined;

  constructor(model: TokenModel, normalizer: Normalizer) {
    this.model = model;
    this.normalizer = normalizer;
  }

  /** A token of the model's vocabulary keeps its id, another one gets the next free id. */
  add(tokens: readonly AddedToken[]): void {
    for (const t of tokens) if (t.special && t.content && !this.special.has(t.content)) this.special.set(t.content, t);
    let last = -1;
    for (const id of this.byId.keys()) last = Math.max(last, id);
    const { size } = this.model;
    let next = last >= size || (size === 0 && last >= 0) ? last + 1 : size;
    const given = [...this.byId.values()];
    for (const t of tokens) {
      if (!t.content || given.some((g) => g.content === t.content && equal(g, t))) continue;
      const id = this.idOf(t.content) ?? next++;
      if (id > HIGHEST_ID) throw malformed(`the id of its token ${shown(t.content)} would be ${id}`);
      this.ids.set(t.content, id);
      this.byId.set(id, t);
      if (!this.special.has(t.content)) this.others.push(t);
      given.push(t);
    }
    const all = [...this.special.values(), ...this.others];
    this.raw = this.finder(all.filter((t) => !t.normalized).map((t) => [t.content, t]));
    this.inNormalized = this.finder(
      all.filter((t) => t.normalized).map((t) => [this.normalizer.apply(t.content), t] as const),
    );
  }

  idOf(token: string): number | undefined {
    return this.ids.get(token) ?? this.model.idOf(token);
  }

  /** The added token of an id; undefined where that is the model's. */
  contentOf(id: number): string | undefined {
    return this.byId.get(id)?.content;
  }

  /** Whether decoding leaves a token out where special ones are. */
  isSpecial(content: string): boolean {
    return this.special.has(content);
  }

  tokens(): IterableIterator<AddedToken> {
    return this.byId.values();
  }

  get highestId(): number {
    let most = -1;
    for (const id of this.ids.values()) most = Math.max(most, id);
    return most;
  }

  /** The sections of a text as it was given. */
  find(t: string): Section[] {
    return this.raw ? this.raw.sections(t) : [{ from: 0, to: t.length, id: -1 }];
  }

  /** The sections of the text between tokens, normalised. */
  findNormalized(t: string): Section[] {
    return this.inNormalized ? this.inNormalized.sections(t) : [{ from: 0, to: t.length, id: -1 }];
  }

  private finder(patterns: readonly (readonly [string, AddedToken])[]): Finder | undefined {
    if (!patterns.length) return undefined;
    const finder = new Finder(this.byId);
    for (const [pattern, token] of patterns) {
      if (!pattern)
        throw unsupported(
          `its added token ${shown(token.content)} is nothing once normalised`,
          'set normalized to false',
        );
      finder.add(pattern, this.idOf(token.content) as number);
    }
    return finder;
  }
}

/** Finds, from left to right, the longest token at each place. */
class Finder {
  private readonly trie = new Trie();
  /** Units that a token begins with. */
  private readonly begins = new Uint8Array(0x10000);
  private readonly tokens: ReadonlyMap<number, AddedToken>;

  constructor(tokens: ReadonlyMap<number, AddedToken>) {
    this.tokens = tokens;
  }

  add(pattern: string, id: number): void {
    this.trie.set(pattern, id, true);
    this.begins[pattern.charCodeAt(0)] = 1;
  }

  sections(t: string): Section[] {
    const out: Section[] = [];
    const kinds = characterKinds();
    let done = 0;
    for (let i = 0; i < t.length; ) {
      const found = this.begins[t.charCodeAt(i)] ? this.trie.longest(t, i) : undefined;
      if (!found) {
        i++;
        continue;
      }
      let from = i;
      let [to, id] = found;
      i = to;
      const token = this.tokens.get(id) as AddedToken;
      if (token.singleWord) {
        const left = from > 0 && kinds[codePointBefore(t, from)] & WORD;
        const right = to < t.length && kinds[t.codePointAt(to) as number] & WORD;
        if (left || right) continue;
      }
      if (token.lstrip) {
        while (from > done && kinds[t.charCodeAt(from - 1)] & SPACE) from--;
        from = Math.max(from, done);
      }
      if (token.rstrip) while (to < t.length && kinds[t.charCodeAt(to)] & SPACE) to++;
      if (done < from) out.push({ from: done, to: from, id: -1 });
      out.push({ from, to, id });
      done = to;
    }
    if (done < t.length) out.push({ from: done, to: t.length, id: -1 });
    return out;
  }
}
