/** @file Splits long texts into passages, each with its titles. */
import { segmentsOf } from '../tokens/text/segments.ts';

/** A part of a file in reading order: a heading or a paragraph. */
export interface Block {
  readonly heading: boolean;
  readonly text: string;
}

export interface Passage {
  /** The document's title, and the heading above the passage, if any. */
  readonly title: string;
  readonly text: string;
}

export interface PassageOptions {
  /** Words of a passage at most. 120 words are some 160 to 190 tokens of English. */
  words?: number;
}

/** A word in scripts with spaces, a character in scripts without. */
const WORD =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]|[^\s\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]+/gu;
const countWords = (text: string): number => text.match(WORD)?.length ?? 0;

/**
 * Paragraphs are joined while they fit, and never across a heading; a paragraph that is too long is cut between sentences, a
 * sentence that is too long between words.
 */
export function passages(title: string, blocks: readonly Block[], { words = 120 }: PassageOptions = {}): Passage[] {
  const out: Passage[] = [];
  let heading = '';
  let parts: string[] = [];
  let size = 0;
  const close = (): void => {
    if (parts.length)
      out.push({ title: heading && heading !== title ? `${title}: ${heading}` : title, text: parts.join('\n') });
    [parts, size] = [[], 0];
  };
  for (const block of blocks) {
    if (block.heading) {
      close();
      heading = block.text;
      continue;
    }
    for (const piece of pieces(block.text, words)) {
      const n = countWords(piece);
      if (size && size + n > words) close();
      parts.push(piece);
      size += n;
    }
  }
  close();
  return out;
}

/** A paragraph in parts of at most so many words. */
function pieces(text: string, words: number): string[] {
  if (countWords(text) <= words) return [text];
  const out: string[] = [];
  let part = '';
  let size = 0;
  const close = (): void => {
    if (part.trim()) out.push(part.trim());
    [part, size] = ['', 0];
  };
  for (const { segment } of segmentsOf(new Intl.Segmenter(undefined, { granularity: 'sentence' }), text)) {
    const n = countWords(segment);
    if (size && size + n > words) close();
    if (n <= words) {
      part += segment;
      size += n;
      continue;
    }
    close();
    for (const [word] of segment.matchAll(new RegExp(`(?:${WORD.source})\\s*`, 'gu'))) {
      if (size >= words) close();
      part += word;
      size++;
    }
  }
  close();
  return out;
}
