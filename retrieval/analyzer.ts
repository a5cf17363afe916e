/** @file Splits a text into terms for lexical search, depending on the language. */
import { francAll } from 'franc-min';
import snowball from 'snowball-stemmers';
import { InputError } from '../common/errors.ts';

/**
 * An analyzer as data, so that an index or a checkpoint can keep it.
 * - `words`: runs of at least two letters, digits or underscores, in lower case, stemmed where a stemmer is named.
 * - `bigrams`: overlapping pairs of characters in runs of Han, kana and Hangul, as Lucene's CJKAnalyzer; words elsewhere.
 * - `segments`: words as Intl.Segmenter finds them, for Thai, Lao, Khmer and Burmese, which have no spaces.
 */
export interface AnalyzerSpec {
  readonly kind: 'words' | 'bigrams' | 'segments';
  /** A Snowball stemmer's name for words with spaces between them; null to take words as they are. */
  readonly stemmer: string | null;
}

/** What a caller may ask for: an analyzer, a stemmer's name, null for words as they are, or `auto`. */
export type AnalyzerChoice = AnalyzerSpec | string | null;

export interface Analyzer {
  readonly spec: AnalyzerSpec;
  /** The terms of a text in order, stopwords left out. */
  terms(text: string): string[];
  /** The same, one by one: the terms of a long text need not be held. */
  each(text: string, found: (term: string) => void): void;
}

/** The stopwords of Lucene's EnglishAnalyzer, which bm25s uses too. They go with the English stemmer. */
const englishStopwords = new Set(
  'a an and are as at be but by for if in into is it no not of on or such that the their then there these they this to was will with'.split(
    ' ',
  ),
);
/** As scikit-learn's CountVectorizer, with combining marks: runs of at least two characters. */
const WORD = /[\p{L}\p{N}_][\p{L}\p{M}\p{N}_]+/gu;
const CJK = String.raw`\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}\u30FC\u3005`;
const CJK_OR_WORD = new RegExp(`[${CJK}]+|(?:(?![${CJK}])[\\p{L}\\p{N}_])(?:(?![${CJK}])[\\p{L}\\p{M}\\p{N}_])+`, 'gu');
const CJK_RUN = new RegExp(`^[${CJK}]`, 'u');
/** Stems kept in memory. A corpus repeats few words many times. */
const MOST_STEMS = 1 << 20;

/**
 * @throws InputError where there is no stemmer of that name
 */
export function analyzer(spec: AnalyzerSpec): Analyzer {
  const stem = stemming(spec.stemmer);
  const words = (text: string, found: (word: string) => void): void => {
    for (const word of text.match(WORD) ?? []) {
      const stemmed = stem(word);
      if (stemmed !== undefined) found(stemmed);
    }
  };
  const cut: Record<AnalyzerSpec['kind'], (text: string, found: (term: string) => void) => void> = {
    words,
    bigrams: (text, found) => {
      for (const run of text.match(CJK_OR_WORD) ?? []) {
        if (!CJK_RUN.test(run)) {
          words(run, found);
          continue;
        }
        const characters = [...run];
        if (characters.length === 1) found(run);
        for (let i = 1; i < characters.length; i++) found(characters[i - 1] + characters[i]);
      }
    },
    segments: (text, found) => {
      segmenter ??= new Intl.Segmenter('th', { granularity: 'word' });
      for (const { segment, isWordLike } of segmenter.segment(text)) if (isWordLike) found(stem(segment) ?? segment);
    },
  };
  let segmenter: Intl.Segmenter | undefined;
  const each = (text: string, found: (term: string) => void): void => {
    for (const part of partsOf(text)) cut[spec.kind](prepared(part), found);
  };
  return {
    spec,
    each,
    terms: (text) => {
      const terms: string[] = [];
      each(text, (term) => terms.push(term));
      return terms;
    },
  };
}

/** Characters of a part of a long text. */
const PART = 1 << 16;
/** What stands in no term, and joins with nothing before it: a text is cut before it. */
const CUT = /[ \n。]/g;

/** A text in parts that have its terms and, one after the other, its normal form and lower case: these are held for one part at a time. */
export function* partsOf(text: string): Generator<string> {
  let from = 0;
  while (text.length - from > PART) {
    CUT.lastIndex = from + PART;
    const end = CUT.exec(text)?.index;
    if (end === undefined) break;
    yield text.slice(from, end);
    from = end;
  }
  yield from ? text.slice(from) : text;
}

/** Lower case; beyond ASCII also one form of each character (full-width letters, decomposed accents). */
const prepared = (text: string): string => (/^[\0-\x7f]*$/.test(text) ? text : text.normalize('NFKC')).toLowerCase();

function stemming(name: string | null): (word: string) => string | undefined {
  if (name === null) return (word) => word;
  if (!snowball.algorithms().includes(name))
    throw new InputError({
      code: 'bm25.language',
      subject: `there is no stemmer for '${name}'`,
      expected: `one of ${snowball.algorithms().join(', ')}`,
      remedy: 'name one of these, or null to take words as they are',
    });
  const stemmer = snowball.newStemmer(name);
  const stems = new Map<string, string | undefined>();
  return (word) => {
    if (stems.has(word)) return stems.get(word);
    const stem = name === 'english' && englishStopwords.has(word) ? undefined : stemmer.stem(word);
    if (stems.size < MOST_STEMS) stems.set(word, stem);
    return stem;
  };
}

/** Languages that franc tells apart and Snowball stems, by ISO 639-3. */
const stemmers: Readonly<Record<string, string>> = {
  arb: 'arabic',
  cat: 'catalan',
  ces: 'czech',
  dan: 'danish',
  deu: 'german',
  eng: 'english',
  eus: 'basque',
  fin: 'finnish',
  fra: 'french',
  hun: 'hungarian',
  hye: 'armenian',
  ita: 'italian',
  nld: 'dutch',
  nob: 'norwegian',
  nno: 'norwegian',
  por: 'portuguese',
  ron: 'romanian',
  rus: 'russian',
  slv: 'slovene',
  spa: 'spanish',
  swe: 'swedish',
  tam: 'tamil',
  tur: 'turkish',
};
/** Number of sampled texts, evenly spread, and characters of each. */
const SAMPLE = 256;
const SAMPLE_CHARACTERS = 400;
/** Characters per call of franc, which is reliable from some hundred on. */
const PASSAGE = 2000;
/** Share of the letters, or of the passages, that decides for the whole corpus. */
const SCRIPT_SHARE = 0.2;
const LANGUAGE_SHARE = 0.6;

/** The analyzer that suits a corpus, and why: a guess that a caller reports. */
export function chooseAnalyzer(documents: { readonly length: number; text(i: number): string }): {
  spec: AnalyzerSpec;
  reason: string;
} {
  const step = Math.max(1, Math.floor(documents.length / SAMPLE));
  let sample = '';
  const passages: string[] = [''];
  for (let i = 0; i < documents.length && i < SAMPLE * step; i += step) {
    const text = documents.text(i).slice(0, SAMPLE_CHARACTERS);
    sample += ` ${text}`;
    passages[passages.length - 1] += ` ${text}`;
    if (passages[passages.length - 1].length >= PASSAGE) passages.push('');
  }
  const count = (pattern: RegExp): number => sample.match(pattern)?.length ?? 0;
  const letters = Math.max(1, count(/\p{L}/gu));
  const stemmer = languageOf(passages.filter((p) => p.length >= PASSAGE || passages.length === 1));
  if (count(new RegExp(`[${CJK}]`, 'gu')) / letters >= SCRIPT_SHARE)
    return { spec: { kind: 'bigrams', stemmer: null }, reason: 'Chinese, Japanese or Korean text' };
  if (count(/[\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/gu) / letters >= SCRIPT_SHARE)
    return { spec: { kind: 'segments', stemmer: null }, reason: 'text without spaces between words' };
  if (stemmer) return { spec: { kind: 'words', stemmer }, reason: `the documents are in ${stemmer}` };
  // Too little or too mixed text to tell: English is the usual case where the letters are plain Latin ones.
  if (count(/[A-Za-z]/g) / letters > 0.98 && passages.length === 1)
    return {
      spec: { kind: 'words', stemmer: 'english' },
      reason: 'too little text to tell the language, in Latin letters',
    };
  return { spec: { kind: 'words', stemmer: null }, reason: 'the documents are not in one language that has a stemmer' };
}

function languageOf(passages: readonly string[]): string | undefined {
  const votes = new Map<string, number>();
  for (const p of passages) {
    const [language] = francAll(p, { minLength: 200 })[0] ?? ['und'];
    votes.set(language, (votes.get(language) ?? 0) + 1);
  }
  const [best, n] = [...votes].sort((a, b) => b[1] - a[1])[0] ?? ['und', 0];
  return n / Math.max(1, passages.length) >= LANGUAGE_SHARE ? stemmers[best] : undefined;
}

/** An analyzer from what a caller asked for. @returns the analyzer and, where it was chosen by the corpus, the reason */
export function openAnalyzer(
  choice: AnalyzerChoice,
  documents: { readonly length: number; text(i: number): string },
): { analyzer: Analyzer; reason?: string } {
  if (choice === null) return { analyzer: analyzer({ kind: 'words', stemmer: null }) };
  if (choice === 'auto') {
    const { spec, reason } = chooseAnalyzer(documents);
    return { analyzer: analyzer(spec), reason };
  }
  if (choice === 'bigrams' || choice === 'segments') return { analyzer: analyzer({ kind: choice, stemmer: null }) };
  return { analyzer: analyzer(typeof choice === 'string' ? { kind: 'words', stemmer: choice } : choice) };
}
