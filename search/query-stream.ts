/** @file A stream of queries made of a data set's: repeats, paraphrases by dropped and swapped words, and new ones. */
import type { Random } from '../math/random.ts';

/** What came before a query: the same text, the text with a word dropped or with two words swapped, or nothing. */
export type StreamKind = 'repeat' | 'dropped' | 'swapped' | 'new';

export interface StreamQuery {
  text: string;
  kind: StreamKind;
  /** The query that came before; absent where this one is new. */
  earlier?: string;
}

/** Draws what came before each query, a quarter each; a query of one word is repeated or new. */
export function streamOf(texts: readonly string[], random: Random): StreamQuery[] {
  return texts.map((text): StreamQuery => {
    const words = text.split(/\s+/).filter(Boolean);
    const kinds: StreamKind[] = words.length > 1 ? ['repeat', 'dropped', 'swapped', 'new'] : ['repeat', 'new'];
    const kind = kinds[random.integer(kinds.length)];
    if (kind === 'new') return { text, kind };
    if (kind === 'repeat') return { text, kind, earlier: text };
    const at = random.integer(words.length);
    if (kind === 'dropped') return { text, kind, earlier: words.filter((_, i) => i !== at).join(' ') };
    const other = (at + 1 + random.integer(words.length - 1)) % words.length;
    [words[at], words[other]] = [words[other], words[at]];
    return { text, kind, earlier: words.join(' ') };
  });
}
