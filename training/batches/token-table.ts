/** @file Token ids of training texts. */
import type { Texts } from '../../data/dataset.ts';
import type { Tokens } from '../../data/tokenizer.ts';

/** Token ids by position, computed on first use and cached. */
export function tokenTable(texts: Texts, encode: (text: string) => Tokens): (i: number) => Tokens {
  const table = new Map<number, Tokens>();
  return (i) => {
    const known = table.get(i);
    if (known) return known;
    const tokens = encode(texts.text(i));
    table.set(i, tokens);
    return tokens;
  };
}
