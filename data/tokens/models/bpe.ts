/** @file The model BPE: neighbouring tokens joined in the order of the list of merges. */
import { byteTokens } from '../base/byte-level.ts';
import {
  type Fields,
  flag,
  listOf,
  malformed,
  optionalText,
  shown,
  unsupported,
  vocabularyOf,
} from '../base/fields.ts';
import { unitsOf } from '../base/unicode.ts';
import { highest, type TokenModel } from './ids.ts';
import { MergeTable } from './merges.ts';

/** @source Sennrich et al. 2016 (arXiv 1508.07909); models/bpe of Hugging Face's tokenizers */
export function readBpe(fields: Fields): TokenModel {
  const ids = vocabularyOf(fields.vocab, 'BPE');
  if (typeof fields.dropout === 'number' && fields.dropout > 0)
    throw unsupported('dropout of its model BPE draws the tokens by chance', 'set dropout to null in tokenizer.json');
  const unknownToken = optionalText(fields, 'unk_token', 'BPE');
  const unknown = unknownToken === undefined ? undefined : ids.get(unknownToken);
  const prefix = optionalText(fields, 'continuing_subword_prefix', 'BPE') ?? '';
  const suffix = optionalText(fields, 'end_of_word_suffix', 'BPE') ?? '';
  const fuse = flag(fields, 'fuse_unk', 'BPE', false);
  const bytes = flag(fields, 'byte_fallback', 'BPE', false);
  const wholeFirst = flag(fields, 'ignore_merges', 'BPE', false);
  const merges = readMerges(fields.merges, ids, prefix);

  return {
    encode(word, out, spans) {
      const whole = wholeFirst ? ids.get(word) : undefined;
      if (whole !== undefined) {
        out.push(whole);
        spans?.push(0, word.length);
        return;
      }
      const symbols: number[] = [];
      const places: number[] = [];
      /** Begin and end of the unknown characters that wait. */
      let waiting: [number, number] | undefined;
      // The library counts what it leaves out, and what it puts behind others, as if it stood in its place: not known here.
      let certain = true;
      const put = (id: number, from: number, to: number): void => {
        symbols.push(id);
        if (spans) places.push(from, to);
      };
      const settle = (): void => {
        if (waiting) put(unknown as number, ...waiting);
        waiting = undefined;
      };
      for (let i = 0; i < word.length; ) {
        const next = i + unitsOf(word.codePointAt(i) as number);
        let symbol = word.slice(i, next);
        if (i && prefix) symbol = prefix + symbol;
        if (next === word.length && suffix) symbol += suffix;
        const from = i;
        i = next;
        const id = ids.get(symbol);
        if (id !== undefined) {
          settle();
          put(id, from, next);
          continue;
        }
        // An unknown that waits is put behind these bytes, as in the library.
        const fallback = bytes ? byteTokens(symbol).map((b) => ids.get(b)) : [undefined];
        if (fallback.every((b) => b !== undefined)) {
          if (waiting) certain = false;
          for (const b of fallback) put(b as number, from, next);
        } else if (unknownToken !== undefined) {
          if (unknown === undefined)
            throw malformed(`unk_token ${shown(unknownToken)} of BPE is not in its vocabulary`);
          if (!fuse) settle();
          waiting = [waiting?.[0] ?? from, next];
        } else certain = false;
      }
      settle();
      const before = spans?.length ?? 0;
      merges.join(symbols, out, spans && places, spans);
      if (!certain) spans?.fill(-1, before);
    },
    tokens: () => ids,
    idOf: (token) => ids.get(token),
    size: ids.size,
    highestId: highest(ids.values()),
  };
}

function readMerges(value: unknown, ids: ReadonlyMap<string, number>, prefix: string): MergeTable {
  const list = listOf(value, 'merges of BPE');
  const table = new MergeTable(list.length);
  let rank = 0;
  for (const entry of list) {
    if (typeof entry === 'string' && entry.startsWith('#version')) continue;
    const pair = typeof entry === 'string' ? entry.split(' ') : entry;
    if (!Array.isArray(pair) || pair.length !== 2 || typeof pair[0] !== 'string' || typeof pair[1] !== 'string')
      throw malformed(`merges of BPE hold ${shown(entry)}, not two tokens`);
    const [left, right] = pair as [string, string];
    const known = [left, right, left + right.slice(prefix.length)].map((token) => {
      const id = ids.get(token);
      if (id === undefined) throw malformed(`merges of BPE name ${shown(token)}, which is not in its vocabulary`);
      return id;
    });
    table.set(known[0], known[1], rank++, known[2]);
  }
  return table;
}
