/**
 * @file Texts like queries, cut from documents without a language model.
 *
 * People describe what they look for and seldom in the words of the document; the name of the thing is what they may not know, or the
 * beginning of what they ask. Three forms in turn: a statement without the title's words, rare words of a sentence, the title with some.
 */

import type { Random } from '../../math/random.ts';
import { segmentsOf } from '../tokens/text/segments.ts';

/** Documents, each with the title that its text begins with. */
interface Titled {
  readonly length: number;
  text(i: number): string;
  title?(i: number): string;
}

/** Documents whose words are counted. */
const SAMPLED = 10_000;
/** A word in a larger share of the documents says nothing of one of them. */
const COMMON = 0.1;
/** Characters of a document that are read: the words of a text of megabytes would take many times its size. */
const READ = 1 << 16;
/** Fewer words are no query. */
export const FEWEST_WORDS = 3;
/** Minimum and maximum of words. */
const STATEMENT = [4, 11] as const;
const SPAN = [3, 9] as const;
const KEYWORDS = [3, 7] as const;
const BESIDE_TITLE = [1, 4] as const;
/** Words of a title at most. */
const MOST_OF_TITLE = 10;
/** Letters of writings that put no spaces between words. */
const UNSPACED = /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Thai}\p{sc=Laoo}\p{sc=Khmr}\p{sc=Mymr}]/u;
/** What is no mark alone. */
const WORD = /[\p{L}\p{N}]/u;

/** Makes texts like queries of one document after the other. The same documents and random numbers give the same texts. */
export class TextMaker {
  private readonly documents: Titled;
  private readonly random: Random;
  private readonly sampled: number;
  /** Documents of the sample that contain a word. */
  private readonly frequency = new Map<string, number>();

  constructor(documents: Titled, random: Random) {
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
    const named = this.documents.title?.(d).replace(/\s+/g, ' ').trim() ?? '';
    const title = isWord(named) ? named : '';
    const from = this.documents.title?.(d).length ?? 0;
    const body = this.documents.text(d).slice(from, from + READ);
    const sentences = Array.from(segmentsOf(segmenters.sentence, body), (s) => wordsOf(s.segment)).filter(
      (s) => s.words.filter(isWord).length >= FEWEST_WORDS,
    );
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
    return [...new Set(made.filter(isWord))];
  }

  /** The first or the last words of a sentence, more often of the first sentence, without those of the title. */
  private statement(sentences: readonly Words[], isName: (word: string) => boolean): string {
    const own = this.random.integer(2) ? sentences[0] : this.any(sentences);
    const rest = own.words.filter((w) => !isName(w));
    const words = rest.filter((w) => this.isRare(w)).length >= FEWEST_WORDS ? rest : own.words;
    const n = this.between(STATEMENT);
    const places = own.words.flatMap((w, at) => (words === own.words || !isName(w) ? [at] : []));
    return joined(this.random.integer(2) ? places.slice(0, n) : places.slice(-n), own);
  }

  /** Words of a sentence in their order, rarer ones more often. */
  private keywords(sentence: Words, isName: (word: string) => boolean, range: readonly [number, number]): string {
    const rare = [...new Set(sentence.words.map(bare))].filter((w) => !isName(w) && this.isRare(w));
    const words = rare.length >= range[0] ? rare : sentence.words.filter(isWord);
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
    const short = name.words.length > MOST_OF_TITLE ? joined(upTo(0, MOST_OF_TITLE), name) : title;
    return `${short} ${this.keywords(this.any(sentences), isName, BESIDE_TITLE)}`;
  }

  /** Neighbouring words of a sentence. */
  private span(sentence: Words): string {
    const n = Math.min(sentence.words.length, this.between(SPAN));
    const from = this.random.integer(sentence.words.length - n + 1);
    return joined(upTo(from, from + n), sentence);
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
  /** What stands before each word and after the one before it; spaces where it is absent. */
  between?: string[];
}

const segmenters = {
  word: new Intl.Segmenter(undefined, { granularity: 'word' }),
  sentence: new Intl.Segmenter(undefined, { granularity: 'sentence' }),
};

function wordsOf(text: string): Words {
  if (!UNSPACED.test(text)) return { words: text.split(/\s+/).filter(Boolean) };
  const words: string[] = [];
  const between: string[] = [];
  let gap = '';
  for (const s of segmentsOf(segmenters.word, text)) {
    if (!s.isWord) {
      gap += s.segment;
      continue;
    }
    words.push(s.segment);
    between.push(gap.replace(/\s+/g, ' '));
    gap = '';
  }
  return { words, between };
}

const upTo = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

const isWord = (text: string): boolean => WORD.test(text);

/** A word without the marks at its ends. */
const bare = (word: string): string => word.replace(/^[\p{P}\p{S}]+|[\p{P}\p{S}]+$/gu, '');

/** A word as it is counted and compared. */
const plain = (word: string): string => bare(word).toLowerCase();

/** The words at some places, parted as the text parts them. */
const joined = (places: readonly number[], { words, between }: Words): string =>
  places
    .map((at) => `${between ? between[at] : ' '}${words[at]}`)
    .join('')
    .replace(/^[\p{P}\s]+|[\p{P}\s]+$/gu, '');
