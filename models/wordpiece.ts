/** @file A WordPiece vocabulary learned from texts, in the files that every Hugging Face tokenizer reads. */
import type { Texts } from '../data/dataset.ts';
import { readPipeline } from '../data/tokens/pipeline.ts';

export interface WordPieceOptions {
  /** Most tokens, special tokens included. */
  size: number;
  /** Pairs seen less often than this are not merged. */
  minFrequency?: number;
  /** Texts are read at even distances until so many characters are seen. */
  maxCharacters?: number;
  /** Most distinct words that pairs are counted in, the most frequent ones. */
  maxWords?: number;
}

export const specialTokens = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]'] as const;
const PREFIX = '##';
/** Words longer than this are unknown to WordPiece anyway. */
const LONGEST_WORD = 100;

/**
 * Learns a vocabulary by merging the most frequent neighbours, as the WordPiece trainer of Hugging Face's tokenizers does:
 * special tokens, then single characters, then merges, most frequent first. The same texts give the same vocabulary.
 *
 * @source byte-pair merges, Sennrich et al. 2016 (arXiv 1508.07909), with BERT's `##` for what continues a word
 */
export function trainWordPiece(texts: Texts, options: WordPieceOptions): string[] {
  const { size, minFrequency = 2 } = options;
  const words = countWords(texts, options);
  const tokens: string[] = [...specialTokens];
  const idOf = new Map<string, number>(tokens.map((t, i) => [t, i]));
  const add = (token: string): number => {
    let id = idOf.get(token);
    if (id === undefined) {
      id = tokens.length;
      tokens.push(token);
      idOf.set(token, id);
    }
    return id;
  };
  const counts = words.map(([, n]) => n);
  const split = words.map(([word]) => Array.from(word, (c, i) => (i ? PREFIX + c : c)));
  // Characters by frequency: where they alone are more than the vocabulary holds, the rare ones stay unknown.
  const characters = new Map<string, number>();
  for (const [w, parts] of split.entries())
    for (const c of parts) characters.set(c, (characters.get(c) ?? 0) + counts[w]);
  const alphabet = [...characters].sort((a, b) => b[1] - a[1] || order(a[0], b[0]));
  for (const [c] of alphabet.slice(0, Math.max(0, size - tokens.length))) add(c);
  const pieces = split.map((parts) => parts.map((c) => idOf.get(c) ?? 1));

  const pairs = new PairTable(tokens);
  for (const [w, ids] of pieces.entries()) pairs.addWord(w, ids, counts[w]);
  while (tokens.length < size) {
    const best = pairs.best();
    if (!best || best.count < minFrequency) break;
    const merged = add(tokens[best.left] + tokens[best.right].slice(PREFIX.length));
    for (const w of best.words) {
      const before = pieces[w];
      const after = merge(before, best.left, best.right, merged);
      if (after.length === before.length) continue;
      pairs.addWord(w, before, -counts[w]);
      pieces[w] = after;
      pairs.addWord(w, after, counts[w]);
    }
    pairs.drop(best.key);
  }
  return tokens;
}

const order = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function merge(ids: readonly number[], left: number, right: number, merged: number): number[] {
  const out: number[] = [];
  for (let i = 0; i < ids.length; i++)
    if (ids[i] === left && ids[i + 1] === right) {
      out.push(merged);
      i++;
    } else out.push(ids[i]);
  return out;
}

/** Words with how often they come, most frequent first, cut as the tokenizer itself will cut them. */
function countWords(
  texts: Texts,
  { maxCharacters = 2e7, maxWords = 100_000 }: WordPieceOptions,
): (readonly [string, number])[] {
  const pipeline = readPipeline(tokenizerJson(specialTokens));
  const counts = new Map<string, number>();
  // A stride that shares no factor with the length visits every text once, spread over the whole table.
  const n = texts.length;
  let stride = Math.max(1, Math.round(n * 0.618));
  while (gcd(stride, n) > 1) stride++;
  for (let k = 0, i = 0, seen = 0; k < n && seen < maxCharacters; k++, i = (i + stride) % n) {
    const text = texts.text(i).toWellFormed();
    seen += text.length;
    for (const word of pipeline.words(text))
      if (word.length <= LONGEST_WORD) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return [...counts].sort((a, b) => b[1] - a[1] || order(a[0], b[0])).slice(0, maxWords);
}

const gcd = (a: number, b: number): number => (b ? gcd(b, a % b) : a);

/** More tokens than any vocabulary has: two ids as one number. */
const MOST_TOKENS = 2 ** 25;

interface PairEntry {
  key: number;
  left: number;
  right: number;
  /** Both tokens, by which equals are ordered. */
  text: string;
  count: number;
  words: Set<number>;
}

/** An entry with the count it had when it was put on the heap. */
interface Held {
  entry: PairEntry;
  count: number;
}

const before = (a: Held, b: Held): boolean =>
  a.count !== b.count ? a.count > b.count : order(a.entry.text, b.entry.text) <= 0;

/** How often each pair of neighbours comes, and in which words. */
class PairTable {
  private readonly tokens: readonly string[];
  private readonly entries = new Map<number, PairEntry>();
  /** Entries whose count has risen since they were last put on the heap. */
  private readonly risen = new Set<PairEntry>();
  /** Entries by a count that was true once, a binary heap; those whose count has fallen are put back when met. */
  private readonly heap: Held[] = [];

  constructor(tokens: readonly string[]) {
    this.tokens = tokens;
  }

  addWord(word: number, ids: readonly number[], count: number): void {
    for (let i = 0; i + 1 < ids.length; i++) {
      const [left, right] = [ids[i], ids[i + 1]];
      if (left === 1 || right === 1) continue; // an unknown character
      const key = left * MOST_TOKENS + right;
      let entry = this.entries.get(key);
      if (!entry) {
        const text = `${this.tokens[left]} ${this.tokens[right]}`;
        entry = { key, left, right, text, count: 0, words: new Set() };
        this.entries.set(key, entry);
      }
      entry.count += count;
      if (count > 0) {
        entry.words.add(word);
        this.risen.add(entry);
      }
    }
  }

  drop(key: number): void {
    this.entries.delete(key);
  }

  /** The most frequent pair; of equals, the one whose tokens come first in the alphabet. */
  best(): PairEntry | undefined {
    for (const entry of this.risen) this.push(entry);
    this.risen.clear();
    for (let top = this.pop(); top; top = this.pop()) {
      const { entry } = top;
      if (this.entries.get(entry.key) !== entry || entry.count <= 0) continue;
      if (top.count === entry.count) return entry;
      if (entry.count < top.count) this.push(entry); // it has fallen since
    }
    return undefined;
  }

  private push(entry: PairEntry): void {
    const { heap } = this;
    let i = heap.push({ entry, count: entry.count }) - 1;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (before(heap[parent], heap[i])) break;
      [heap[parent], heap[i]] = [heap[i], heap[parent]];
      i = parent;
    }
  }

  private pop(): Held | undefined {
    const { heap } = this;
    const [top] = heap;
    const last = heap.pop();
    if (!last || !heap.length) return top;
    heap[0] = last;
    for (let i = 0; ; ) {
      let child = 2 * i + 1;
      if (child + 1 < heap.length && before(heap[child + 1], heap[child])) child++;
      if (child >= heap.length || before(heap[i], heap[child])) break;
      [heap[child], heap[i]] = [heap[i], heap[child]];
      i = child;
    }
    return top;
  }
}

/** tokenizer.json of a lower-casing BERT tokenizer over a vocabulary that begins with the special tokens. */
export function tokenizerJson(vocabulary: readonly string[]): Record<string, unknown> {
  const special = (id: string, type: number) => ({ SpecialToken: { id, type_id: type } });
  const sequence = (id: 'A' | 'B', type: number) => ({ Sequence: { id, type_id: type } });
  const single = [special('[CLS]', 0), sequence('A', 0), special('[SEP]', 0)];
  const entry = (token: string) => [token, { id: token, ids: [vocabulary.indexOf(token)], tokens: [token] }];
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: null,
      lowercase: true,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single,
      pair: [...single, sequence('B', 1), special('[SEP]', 1)],
      special_tokens: Object.fromEntries(['[CLS]', '[SEP]'].map(entry)),
    },
    decoder: { type: 'WordPiece', prefix: PREFIX, cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: '[UNK]',
      continuing_subword_prefix: PREFIX,
      max_input_chars_per_word: LONGEST_WORD,
      vocab: Object.fromEntries(vocabulary.map((t, i) => [t, i])),
    },
  };
}

/** tokenizer_config.json that goes with it. */
export const tokenizerConfig = (maxLength: number): Record<string, unknown> => ({
  tokenizer_class: 'BertTokenizer',
  do_lower_case: true,
  tokenize_chinese_chars: true,
  strip_accents: null,
  model_max_length: maxLength,
  unk_token: '[UNK]',
  sep_token: '[SEP]',
  pad_token: '[PAD]',
  cls_token: '[CLS]',
  mask_token: '[MASK]',
});
