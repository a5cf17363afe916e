/**
 * @file Texts like queries, cut from documents without a language model.
 *
 * People describe what they look for and seldom in the words of the document; the name of the thing is what they may not know, or the
 * beginning of what they ask. Three forms in turn: a statement without the title's words, rare words of a sentence, the title with some.
 */
import type { Random } from '../../math/random.ts';

/** Documents whose words are counted. */
const SAMPLED = 10_000;
/** A word in a larger share of the documents says nothing of one of them. */
const COMMON = 0.1;
/** Characters of a document that are read: the words of a text of megabytes would take many times its size. */
const READ = 1 << 16;
/** Fewer words are no query. */
const LEAST = 3;
/** Minimum and maximum of words. */
const STATEMENT = [4, 11] as const;
const SPAN = [3, 9] as const;
const KEYWORDS = [3, 7] as const;
const BESIDE_TITLE = [1, 4] as const;
/** Words of a title at most. */
const MOST_OF_TITLE = 10;
/** Characters of a word on average beyond which a text has no spaces between its words. */
const LONG = 20;

export const FEWEST_WORDS = LEAST;

/** What is read of documents: a text begins with its title, where there is one. */
export interface TitledTexts {
  readonly length: number;
  text(i: number): string;
  title?(i: number): string;
}

/** Makes texts like queries of one document after the other. The same documents and random numbers give the same texts. */
export class TextMaker {
  private readonly documents: TitledTexts;
  private readonly random: Random;
  private readonly sampled: number;
  /** Documents of the sample that contain a word. */
  private readonly frequency = new Map<string, number>();

  constructor(documents: TitledTexts, random: Random) {
    this.documents = documents;
    this.random = random;
    this.sampled = Math.min(SAMPLED, documents.length);
    for (let i = 0; i < this.sampled; i++) {
      const text = documents.text(Math.floor((i * documents.length) / this.sampled)).slice(0, READ);
      for (const word of new Set(wordsOf(text).words.map(plain))) this.frequency.set(word, this.count(word) + 1);
    }
  }

  /** @returns up to `each` texts of a document; none where no sentence has enough words and there is no title */
  of(d: number, each: number): string[] {
    const title = this.documents.title?.(d).replace(/\s+/g, ' ').trim() ?? '';
    const from = this.documents.title?.(d).length ?? 0;
    const body = this.documents.text(d).slice(from, from + READ);
    const sentences = Array.from(new Intl.Segmenter(undefined, { granularity: 'sentence' }).segment(body), (s) =>
      wordsOf(s.segment),
    ).filter((s) => s.words.length >= LEAST);
    if (!sentences.length) return title ? [title] : [];
    const names = new Set(
      [title, ...wordsOf(title).words, ...title.split(/[^\p{L}\p{N}]+/u)].map(plain).filter(Boolean),
    );
    const isName = (word: string): boolean => names.has(plain(word)) && this.isRare(word);
    const kinds = [
      () => this.statement(sentences, isName),
      () => this.keywords(this.any(sentences), isName, KEYWORDS),
      () => (title ? this.titled(title, sentences, isName) : this.span(this.any(sentences))),
    ];
    const first = this.random.integer(kinds.length);
    const made = Array.from({ length: each }, (_, i) => kinds[(first + i) % kinds.length]());
    return [...new Set(made.filter(Boolean))];
  }

  /** The first or the last words of a sentence, more often of the first sentence, without those of the title. */
  private statement(sentences: readonly Words[], isName: (word: string) => boolean): string {
    const own = this.random.integer(2) ? sentences[0] : this.any(sentences);
    const rest = own.words.filter((w) => !isName(w));
    const words = rest.filter((w) => this.isRare(w)).length >= LEAST ? rest : own.words;
    const n = this.between(STATEMENT);
    return joined(this.random.integer(2) ? words.slice(0, n) : words.slice(-n), own);
  }

  /** Words of a sentence in their order, rarer ones more often. */
  private keywords(sentence: Words, isName: (word: string) => boolean, range: readonly [number, number]): string {
    const rare = [...new Set(sentence.words.map(bare))].filter((w) => !isName(w) && this.isRare(w));
    const words = rare.length >= range[0] ? rare : sentence.words;
    // Drawn without replacement: the smallest of exponential numbers with these rates.
    const drawn = words
      .map((word, at) => {
        const rate = Math.log((1 + this.sampled) / (1 + this.count(plain(word)))) + 0.1;
        return { at, key: -Math.log(1 - this.random.uniform()) / rate };
      })
      .sort((a, b) => a.key - b.key)
      .slice(0, this.between(range));
    // Where words have no spaces between them, people still part the words of a search.
    return drawn
      .sort((a, b) => a.at - b.at)
      .map(({ at }) => words[at])
      .join(' ');
  }

  private titled(title: string, sentences: readonly Words[], isName: (word: string) => boolean): string {
    const name = wordsOf(title);
    const short = name.words.length > MOST_OF_TITLE ? joined(name.words.slice(0, MOST_OF_TITLE), name) : title;
    return `${short} ${this.keywords(this.any(sentences), isName, BESIDE_TITLE)}`;
  }

  /** Neighbouring words of a sentence. */
  private span(sentence: Words): string {
    const n = Math.min(sentence.words.length, this.between(SPAN));
    const from = this.random.integer(sentence.words.length - n + 1);
    return joined(sentence.words.slice(from, from + n), sentence);
  }

  private any<T>(all: readonly T[]): T {
    return all[this.random.integer(all.length)];
  }

  private between([least, most]: readonly [number, number]): number {
    return least + this.random.integer(most - least + 1);
  }

  private isRare(word: string): boolean {
    const own = plain(word);
    return own !== '' && this.count(own) <= COMMON * this.sampled;
  }

  private count(word: string): number {
    return this.frequency.get(word) ?? 0;
  }
}

/** The words of a text as they stand, marks included where spaces part them. */
interface Words {
  words: string[];
  spaced: boolean;
}

let segmenter: Intl.Segmenter | undefined;

function wordsOf(text: string): Words {
  const words = text.split(/\s+/).filter(Boolean);
  const characters = words.reduce((n, w) => n + w.length, 0);
  if (characters <= LONG * words.length) return { words, spaced: true };
  segmenter ??= new Intl.Segmenter(undefined, { granularity: 'word' });
  const found = Array.from(segmenter.segment(text)).filter((s) => s.isWordLike);
  return { words: found.map((s) => s.segment), spaced: false };
}

/** A word without the marks at its ends. */
const bare = (word: string): string => word.replace(/^[\p{P}\p{S}]+|[\p{P}\p{S}]+$/gu, '');

/** A word as it is counted and compared. */
const plain = (word: string): string => bare(word).toLowerCase();

const joined = (words: readonly string[], { spaced }: Words): string =>
  words.join(spaced ? ' ' : '').replace(/^[\p{P}\s]+|[\p{P}\s]+$/gu, '');
