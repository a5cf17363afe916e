/** @file A tokenizer cut to the pieces that are used: its file is rewritten so that texts of those pieces give the same ones. */
import { InputError } from '../../common/errors.ts';

/** tokenizer.json, as far as ids stand in it. */
export interface TokenizerJson {
  added_tokens?: { id: number; content: string }[];
  padding?: { pad_id?: number; pad_token?: string } | null;
  truncation?: object | null;
  post_processor?: PostProcessor | null;
  model: TokenizerModel;
}

interface TokenizerModel {
  type?: string;
  /** WordPiece and BPE: ids by piece. Unigram: pieces with their log probabilities, by id. */
  vocab: Record<string, number> | [string, number][];
  merges?: (string | [string, string])[];
  unk_id?: number | null;
  continuing_subword_prefix?: string | null;
}

interface PostProcessor {
  type: string;
  processors?: PostProcessor[];
  special_tokens?: Record<string, { ids: number[] }>;
  sep?: [string, number];
  cls?: [string, number];
}

export interface VocabularyCut {
  tokenizer: TokenizerJson;
  /** Old ids that stay, by new id. */
  kept: Int32Array;
}

/**
 * Keeps the pieces used, special tokens, single characters and a reserve of the lowest ids, in their old order.
 *
 * A longest match (WordPiece), a best path (Unigram) and the merges in their order (BPE) are the same among fewer pieces
 * as long as every piece they go through stays.
 *
 * @param used ids that the texts have
 * @param reserve further pieces kept, lowest ids first: most vocabularies are sorted by how often a piece occurs
 * @param padId stays the id that it is: graphs may compare with it
 * @throws InputError where the tokenizer is of a family that cannot be cut
 */
export function cutVocabulary(
  json: TokenizerJson,
  used: ReadonlySet<number>,
  reserve: number,
  padId: number,
): VocabularyCut {
  const model = json.model;
  const type = model.type ?? (Array.isArray(model.vocab) ? 'Unigram' : model.merges ? 'BPE' : 'WordPiece');
  if (!['WordPiece', 'Unigram', 'BPE'].includes(type))
    throw new InputError({
      code: 'export.vocabulary-family',
      subject: `a tokenizer of the family ${type} cannot be cut`,
      expected: 'WordPiece, Unigram or BPE',
      remedy: 'leave --vocabulary out',
    });
  const ids = new Map(Array.isArray(model.vocab) ? model.vocab.map(([p], i) => [p, i]) : Object.entries(model.vocab));
  const keep = new Set(used);
  for (const t of json.added_tokens ?? []) keep.add(t.id);
  for (let id = 0; id <= padId; id++) keep.add(id);
  if (typeof model.unk_id === 'number') keep.add(model.unk_id);
  const prefix = model.continuing_subword_prefix ?? '';
  for (const [piece, id] of ids) if (isSingle(piece, prefix)) keep.add(id);
  const all = new Set([...ids.values(), ...(json.added_tokens ?? []).map((t) => t.id)]);
  let left = reserve;
  for (const id of [...all].sort((a, b) => a - b))
    if (left > 0 && !keep.has(id)) {
      keep.add(id);
      left--;
    }
  const merges = model.merges && closeUnderMerges(model.merges, ids, keep);
  const kept = Int32Array.from([...keep].filter((id) => all.has(id)).sort((a, b) => a - b));
  const renumbered = new Map(Array.from(kept, (old, id) => [old, id]));
  const to = (id: number): number => renumbered.get(id) as number;
  const vocab = Array.isArray(model.vocab)
    ? model.vocab.filter((_, id) => renumbered.has(id))
    : Object.fromEntries(Object.entries(model.vocab).flatMap(([p, id]) => (renumbered.has(id) ? [[p, to(id)]] : [])));
  const tokenizer: TokenizerJson = {
    ...json,
    added_tokens: json.added_tokens?.map((t) => ({ ...t, id: to(t.id) })),
    post_processor: json.post_processor && renumberPost(json.post_processor, to),
    model: {
      ...model,
      vocab,
      ...(merges ? { merges } : {}),
      ...(typeof model.unk_id === 'number' ? { unk_id: to(model.unk_id) } : {}),
    },
  };
  if (json.padding && typeof json.padding.pad_id === 'number')
    tokenizer.padding = { ...json.padding, pad_id: to(json.padding.pad_id) };
  return { tokenizer, kept };
}

/** One character, with or without what marks the inside or the beginning of a word, or one byte. */
function isSingle(piece: string, prefix: string): boolean {
  if (/^<0x[0-9A-F]{2}>$/.test(piece)) return true;
  const bare = prefix && piece.startsWith(prefix) ? piece.slice(prefix.length) : piece.replace(/^\u2581|<\/w>$/u, '');
  return [...bare].length <= 1;
}

/** Adds what the kept pieces are merged from, and gives the merges whose result is kept. */
function closeUnderMerges(
  merges: readonly (string | [string, string])[],
  ids: ReadonlyMap<string, number>,
  keep: Set<number>,
): (string | [string, string])[] {
  const parts = (m: string | [string, string]): [string, string] => {
    if (typeof m !== 'string') return m;
    const at = m.indexOf(' ', 1);
    return [m.slice(0, at), m.slice(at + 1)];
  };
  // Results stand after their parts in the list, so one walk from the end reaches everything.
  for (const merge of [...merges].reverse()) {
    const [a, b] = parts(merge);
    if (!keep.has(ids.get(a + b) ?? -1)) continue;
    for (const part of [a, b]) if (ids.has(part)) keep.add(ids.get(part) as number);
  }
  return merges.filter((m) => keep.has(ids.get(parts(m).join('')) ?? -1));
}

function renumberPost(post: PostProcessor, to: (id: number) => number): PostProcessor {
  const copy = { ...post };
  if (post.processors) copy.processors = post.processors.map((p) => renumberPost(p, to));
  if (post.special_tokens)
    copy.special_tokens = Object.fromEntries(
      Object.entries(post.special_tokens).map(([name, t]) => [name, { ...t, ids: t.ids.map(to) }]),
    );
  for (const key of ['sep', 'cls'] as const) {
    const pair = post[key];
    if (pair) copy[key] = [pair[0], to(pair[1])];
  }
  return copy;
}

/** Keys of config.json that are token ids. */
const idKeys = ['pad_token_id', 'bos_token_id', 'eos_token_id', 'cls_token_id', 'sep_token_id', 'mask_token_id'];

/** config.json with the new ids and size. */
export function renumberConfig(config: Record<string, unknown>, kept: Int32Array): Record<string, unknown> {
  const copy: Record<string, unknown> = { ...config };
  if ('vocab_size' in copy) copy.vocab_size = kept.length;
  for (const key of idKeys) {
    const id = copy[key];
    const at = typeof id === 'number' ? kept.indexOf(id) : -1;
    if (at >= 0) copy[key] = at;
    else if (typeof id === 'number') delete copy[key];
  }
  return copy;
}

/** tokenizer_config.json with the new ids of added tokens and the longest text that the checkpoint takes. */
export function tokenizerConfig(
  config: Record<string, unknown>,
  maxLength: number,
  kept?: Int32Array,
): Record<string, unknown> {
  const copy: Record<string, unknown> = { ...config, model_max_length: maxLength };
  const decoder = copy.added_tokens_decoder;
  if (kept && decoder && typeof decoder === 'object')
    copy.added_tokens_decoder = Object.fromEntries(
      Object.entries(decoder)
        .map(([id, token]) => [kept.indexOf(Number(id)), token] as const)
        .filter(([id]) => id >= 0),
    );
  return copy;
}

/** The same longest text in tokenizer.json, whose own padding to a fixed length would reach the model. */
export function withLimits(json: TokenizerJson, maxLength: number): TokenizerJson {
  const copy: TokenizerJson = { ...json };
  copy.truncation = {
    direction: 'Right',
    strategy: 'LongestFirst',
    stride: 0,
    ...json.truncation,
    max_length: maxLength,
  };
  if (json.padding) copy.padding = { ...json.padding, strategy: 'BatchLongest' } as TokenizerJson['padding'];
  return copy;
}

/** vocab.txt: one WordPiece a line, by id. */
export function vocabTxt(json: TokenizerJson): string | undefined {
  if (Array.isArray(json.model.vocab) || json.model.merges) return undefined;
  const pieces = Object.entries(json.model.vocab).sort(([, a], [, b]) => a - b);
  return `${pieces.map(([piece]) => piece).join('\n')}\n`;
}
