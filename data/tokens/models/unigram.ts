/** @file The model Unigram: the segmentation of a word with the highest sum of scores. */
import { byteTokens } from '../base/byte-level.ts';
import { type Fields, flag, HIGHEST_ID, listOf, malformed, shown } from '../base/fields.ts';
import { Trie } from '../base/trie.ts';
import { unitsOf } from '../base/unicode.ts';
import { noUnknown, type TokenModel } from './ids.ts';

/** How much less than the lowest score an unknown character has. */
const PENALTY = 10;

/** @source Kudo 2018 (arXiv 1804.10959); models/unigram/model.rs, encode_optimized, of Hugging Face's tokenizers */
export function readUnigram(fields: Fields): TokenModel {
  const ids = new Map<string, number>();
  const names: string[] = [];
  const scores: number[] = [];
  let lowest = Number.POSITIVE_INFINITY;
  for (const entry of listOf(fields.vocab, 'the vocabulary of Unigram')) {
    const [token, score] = Array.isArray(entry) ? entry : [];
    if (typeof token !== 'string' || typeof score !== 'number')
      throw malformed(`the vocabulary of Unigram holds ${shown(entry)}, not a token with its score`);
    ids.set(token, scores.length);
    names.push(token);
    const read = asRead(score);
    scores.push(read);
    if (read < lowest) lowest = read;
  }
  if (scores.length > HIGHEST_ID) throw malformed(`the vocabulary of Unigram has ${scores.length} tokens`);
  const unknown = fields.unk_id ?? undefined;
  if (
    unknown !== undefined &&
    !(typeof unknown === 'number' && Number.isInteger(unknown) && unknown >= 0 && unknown < scores.length)
  )
    throw malformed(`unk_id of Unigram is ${shown(unknown)}, not an id of its vocabulary`);
  const bytes = flag(fields, 'byte_fallback', 'Unigram', false);
  const trie = new Trie();
  for (const [token, id] of ids) if (token) trie.set(token, id);

  /** The ids of the characters between two positions of the best segmentation. */
  const put = (piece: string, out: number[]): void => {
    const id = ids.get(piece);
    if (id !== undefined) out.push(id);
    else {
      const fallback = bytes ? byteTokens(piece).map((b) => ids.get(b)) : [undefined];
      if (fallback.every((b) => b !== undefined)) out.push(...(fallback as number[]));
      else if (unknown === undefined) throw noUnknown('Unigram');
      else out.push(unknown);
    }
  };

  return {
    encode(word, out, spans) {
      const n = word.length;
      const best = new Float64Array(n + 1);
      const from = new Int32Array(n + 1).fill(-1);
      const by = new Int32Array(n + 1);
      const offer = (start: number, end: number, score: number, id: number): void => {
        const sum = score + best[start];
        if (from[end] >= 0 && !(sum > best[end])) return;
        best[end] = sum;
        from[end] = start;
        by[end] = id;
      };
      for (let start = 0; start < n; ) {
        const one = start + unitsOf(word.codePointAt(start) as number);
        let single = false;
        for (let end = start, node = 0; end < n; ) {
          node = trie.child(node, word.charCodeAt(end++));
          if (!node) break;
          const id = trie.value(node);
          if (id < 0) continue;
          offer(start, end, scores[id], id);
          if (end === one) single = true;
        }
        if (!single) {
          if (unknown === undefined) throw noUnknown('Unigram');
          offer(start, one, lowest - PENALTY, unknown);
        }
        start = one;
      }
      // Neighbouring unknown characters are one piece. Walked from the end, so the pieces come out backwards.
      const cuts: number[] = [];
      let open = -1;
      for (let end = n; end > 0; end = from[end]) {
        if (unknown !== undefined && by[end] === unknown) {
          if (open < 0) open = end;
        } else {
          if (open >= 0) cuts.push(end, open);
          open = -1;
          cuts.push(from[end], end);
        }
      }
      if (open >= 0) cuts.push(0, open);
      for (let i = cuts.length - 2; i >= 0; i -= 2) {
        const before = out.length;
        put(word.slice(cuts[i], cuts[i + 1]), out);
        if (spans) for (let k = before; k < out.length; k++) spans.push(cuts[i], cuts[i + 1]);
      }
    },
    tokens: () => names.map((token, id) => [token, id] as const),
    idOf: (token) => ids.get(token),
    size: ids.size,
    highestId: scores.length - 1,
  };
}

/**
 * A number as serde_json reads its shortest form: digits as one whole number, times or over a power of ten. It is the next
 * double at times, which decides between cuts of nearly equal score.
 * @source f64_from_parts of serde_json, without its feature float_roundtrip
 */
function asRead(score: number): number {
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(score));
  if (!parts) return score;
  const [, sign, whole, rest = '', power = '0'] = parts;
  const exponent = Number(power) - rest.length;
  const digits = Number(BigInt(whole + rest));
  const scale = Number(`1e${Math.abs(exponent)}`);
  const value = exponent >= 0 ? digits * scale : digits / scale;
  if (!Number.isFinite(value) || !Number.isFinite(scale)) return score;
  return sign ? -value : value;
}
