/** @file Pseudo-queries cut from documents: spans, sentences, titles. */

import type { Dataset, TextTable } from '../data/dataset.ts';
import { listOnDemand } from '../data/table/ids.ts';
import type { TextTokenizer } from '../data/tokenizer.ts';
import { Random } from '../math/random.ts';

/** Which parts of documents serve as queries, how many texts are made and of how many tokens. */
export interface TextOptions {
  kind: 'spans' | 'sentences' | 'mixed' | 'titles' | 'first-sentences';
  count: number;
  /** Minimum and maximum. */
  tokens: readonly [number, number];
}

/**
 * Makes pseudo-queries from documents, without a language model.
 *
 * Spans begin at a random word of a random document and end after the drawn number of tokens; sentences begin at the start of one
 * of the document's sentences; mixed alternates the two. Titles and first sentences are one per document, in random order. The
 * same seed gives the same texts.
 *
 * @param tokenizer counts tokens, without special tokens
 */
export function generateTexts(
  documents: TextTable,
  { kind, count, tokens: [least, most] }: TextOptions,
  tokenizer: Pick<TextTokenizer, 'plain'>,
  seed: number,
): string[] {
  const random = Random.of(seed, `generate ${kind}`);
  const take = (words: readonly string[], from: number, wanted: number): string => {
    let [to, used] = [from, 0];
    while (to < words.length && used < wanted) used += tokenizer.plain(words[to++]).length;
    return words.slice(from, to).join(' ');
  };
  const out = new Set<string>();
  if (kind === 'spans' || kind === 'sentences' || kind === 'mixed') {
    // Duplicates count once; a small corpus may give fewer texts than requested.
    for (let tries = 0; out.size < count && tries < 4 * count; tries++) {
      const text = documents.text(random.integer(documents.length));
      const whole = kind === 'sentences' || (kind === 'mixed' && tries % 2 === 1);
      const words = wordsOf(whole ? anySentence(text, random) : text);
      if (!words.length) continue;
      const wanted = least + random.integer(most - least + 1);
      const from = whole ? 0 : random.integer(Math.max(1, words.length - Math.ceil(least / 2)));
      out.add(take(words, from, wanted));
    }
    return [...out];
  }
  const order = random.shuffle(Int32Array.from({ length: documents.length }, (_, i) => i));
  for (const d of order) {
    if (out.size >= count) break;
    const text = kind === 'titles' ? documents.title?.(d) : firstSentence(documents.text(d));
    if (text) out.add(take(wordsOf(text), 0, most));
  }
  return [...out];
}

const wordsOf = (text: string): string[] => text.split(/\s+/).filter(Boolean);

/** Up to the first full stop, question or exclamation mark that ends a word, or the first line. */
export function firstSentence(text: string): string {
  const line = text.split('\n').find((l) => l.trim()) ?? '';
  return /^.*?[.!?](?=\s|$)/s.exec(line)?.[0] ?? line;
}

/** One of a text's sentences. */
function anySentence(text: string, random: Random): string {
  const all = text.split(/(?<=[.!?])\s+|\n\s*\n/).filter((t) => t.trim());
  return all[random.integer(all.length)] ?? '';
}

/** The data set with further queries appended, which are in no split. */
export function withQueries(dataset: Dataset, texts: readonly string[]): Dataset {
  if (!texts.length) return dataset;
  const { queries } = dataset;
  const length = queries.length + texts.length;
  const ids = listOnDemand(length, (i) => (i < queries.length ? queries.ids[i] : `generated-${i - queries.length}`));
  return {
    ...dataset,
    queries: {
      ids,
      length,
      text: (i) => (i < queries.length ? queries.text(i) : texts[i - queries.length]),
      indexOf: (id) => queries.indexOf(id),
      hash: queries.hash,
    },
  };
}
