/**
 * @file A hybrid search in one file: documents' vectors and an inverted index over token ids, without any runtime, in Node and in
 * browsers.
 *
 * score = cosine + lambda x BM25 / scale, BM25 as Lucene has it:
 *
 *     sum over t in q of ln(1 + (N - df + 0.5) / (df + 0.5)) tf / (tf + k1 (1 - b + b |d| / avg|d|))
 *
 * @example
 * const search = new StaticSearch(new StaticEncoder(tower), index); // both as ArrayBuffer or Uint8Array
 * search.search('how do I install a kernel module', 10); // [{ id, score }, ...], best first
 */
import type { StaticEncoder } from './index.ts';

/** How the lexical channel counts. */
export interface StaticLexical {
  /** score = cosine + lambda x BM25 / scale. */
  lambda: number;
  scale: number;
  k1: number;
  b: number;
}

/** What an index is made of. */
export interface StaticIndexInput extends StaticLexical {
  ids: readonly string[];
  /** [documents, dimensions] row-major, of unit length. */
  vectors: Float32Array;
  /** Token ids of each document, as `StaticEncoder.terms` gives them. */
  terms: readonly ArrayLike<number>[];
}

/** A document that was found. */
export interface StaticHit {
  id: string;
  /** Where it stands in the index. */
  position: number;
  score: number;
}

const FORMAT = 'onnx-distill-static-search-1';

interface Header extends StaticLexical {
  format: string;
  /** What texts are cut into: token ids of the encoder. */
  analyzer: { kind: 'pieces' };
  ids: string[];
  dimensions: number;
  averageLength: number;
  /** Distinct token ids, and places in all their lists. */
  tokens: number;
  places: number;
}

/** Arrays of the file in order, each at a multiple of 4 bytes. */
const layout = ({ ids: { length: n }, dimensions: D, tokens: t, places: p }: Header) =>
  [
    ['scales', Float32Array, n],
    ['lengths', Uint32Array, n],
    ['tokens', Uint32Array, t],
    ['ends', Uint32Array, t],
    ['places', Uint32Array, p],
    ['counts', Uint8Array, p],
    ['vectors', Int8Array, n * D],
  ] as const;

const padded = (bytes: number): number => Math.ceil(bytes / 4) * 4;

/**
 * The file of an index.
 * @throws RangeError where vectors, terms and ids are not of one number
 */
export function encodeStaticIndex({ ids, vectors, terms, lambda, scale, k1, b }: StaticIndexInput): Uint8Array {
  const n = ids.length;
  const D = n ? vectors.length / n : 0;
  if (terms.length !== n || !Number.isInteger(D))
    throw new RangeError(`${n} ids, ${terms.length} lists of terms and ${vectors.length} numbers do not fit together`);
  const postings = new Map<number, [place: number, count: number][]>();
  const lengths = Uint32Array.from(terms, (t) => t.length);
  for (const [place, own] of terms.entries()) {
    const counts = new Map<number, number>();
    for (let i = 0; i < own.length; i++) counts.set(own[i], (counts.get(own[i]) ?? 0) + 1);
    for (const [token, count] of counts) {
      const list = postings.get(token);
      // Beyond 255 a term's count changes its weight by less than a hundredth.
      if (list) list.push([place, Math.min(255, count)]);
      else postings.set(token, [[place, Math.min(255, count)]]);
    }
  }
  const sorted = [...postings].sort(([a], [c]) => a - c);
  const places = sorted.flatMap(([, list]) => list);
  let end = 0;
  const header: Header = {
    ...{ format: FORMAT, analyzer: { kind: 'pieces' }, lambda, scale, k1, b, ids: [...ids], dimensions: D },
    averageLength: n ? lengths.reduce((s, l) => s + l, 0) / n : 0,
    tokens: sorted.length,
    places: places.length,
  };
  const scales = new Float32Array(n);
  const codes = new Int8Array(n * D);
  for (let d = 0; d < n; d++) {
    let most = 0;
    for (let k = 0; k < D; k++) most = Math.max(most, Math.abs(vectors[d * D + k]));
    scales[d] = most / 127;
    for (let k = 0; k < D; k++) codes[d * D + k] = most ? Math.round(vectors[d * D + k] / scales[d]) : 0;
  }
  const arrays = {
    scales,
    lengths,
    tokens: Uint32Array.from(sorted, ([token]) => token),
    ends: Uint32Array.from(sorted, ([, list]) => (end += list.length)),
    places: Uint32Array.from(places, ([place]) => place),
    counts: Uint8Array.from(places, ([, count]) => count),
    vectors: codes,
  };
  const text = new TextEncoder().encode(JSON.stringify(header));
  const parts = layout(header).map(([name]) => arrays[name]);
  const start = 4 + padded(text.length);
  const out = new Uint8Array(start + parts.reduce((s, a) => s + padded(a.byteLength), 0)).fill(0x20, 4, start);
  new DataView(out.buffer).setUint32(0, start - 4, true);
  out.set(text, 4);
  let at = start;
  for (const part of parts) {
    out.set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), at);
    at += padded(part.byteLength);
  }
  return out;
}

/** @throws Error where the file is another one, or not whole */
function decode(file: ArrayBuffer | Uint8Array) {
  try {
    const bytes = new Uint8Array(file instanceof Uint8Array ? file.slice() : file);
    const start = 4 + new DataView(bytes.buffer).getUint32(0, true);
    const header: Header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, start)));
    if (header.format !== FORMAT || header.analyzer.kind !== 'pieces') throw new Error('another format');
    let at = start;
    const arrays = {} as Record<string, Float32Array | Uint32Array | Uint8Array | Int8Array>;
    for (const [name, Kind, length] of layout(header)) {
      arrays[name] = new Kind(bytes.buffer, at, length);
      at += padded(length * Kind.BYTES_PER_ELEMENT);
    }
    if (at !== bytes.length) throw new Error('cut short');
    const { scales, lengths, tokens, ends, places, counts, vectors } = arrays;
    return { header, scales, lengths, tokens, ends, places, counts, vectors };
  } catch (cause) {
    throw new Error('the file is not a static search index of onnx-distill, or is not whole', { cause });
  }
}

/** A corpus and its query tower in memory. */
export class StaticSearch {
  private readonly encoder: Pick<StaticEncoder, 'dimensions' | 'embed' | 'terms'>;
  private readonly index: ReturnType<typeof decode>;
  private readonly listOf: Map<number, number>;

  /**
   * @param encoder the tower that the documents' vectors are searched with
   * @param file as `encodeStaticIndex` makes it
   * @throws Error where the file is another one, not whole, or of another width than the encoder
   */
  constructor(encoder: Pick<StaticEncoder, 'dimensions' | 'embed' | 'terms'>, file: ArrayBuffer | Uint8Array) {
    this.encoder = encoder;
    this.index = decode(file);
    const { ids, dimensions } = this.index.header;
    if (ids.length && dimensions !== encoder.dimensions)
      throw new Error(`the index has vectors of ${dimensions} dimensions, and the encoder gives ${encoder.dimensions}`);
    this.listOf = new Map(Array.from(this.index.tokens, (token, i) => [token, i]));
  }

  /** Documents that a search can find. */
  get size(): number {
    return this.index.header.ids.length;
  }

  /** The k best documents, best first; of equal ones the earlier. */
  search(text: string, k = 10): StaticHit[] {
    const { ids, lambda, scale } = this.index.header;
    const scores = this.cosines(this.encoder.embed(text, 'query'));
    if (lambda) for (const [place, bm25] of this.bm25(text)) scores[place] += (lambda * bm25) / scale;
    const best: number[] = [];
    for (let d = 0; d < scores.length; d++) {
      if (best.length === k && scores[d] <= scores[best[k - 1]]) continue;
      let at = best.length === k ? k - 1 : best.length;
      while (at > 0 && scores[best[at - 1]] < scores[d]) at--;
      best.splice(at, 0, d);
      if (best.length > k) best.pop();
    }
    return best.map((position) => ({ id: ids[position], position, score: scores[position] }));
  }

  /** [documents] */
  private cosines(query: Float32Array): Float64Array {
    const { scales, vectors, header } = this.index;
    const { dimensions: D } = header;
    return Float64Array.from(scales, (scale, d) => {
      let sum = 0;
      for (let i = 0, at = d * D; i < D; i++) sum += query[i] * vectors[at + i];
      return scale * sum;
    });
  }

  /** BM25 of the documents that have a term of the text, by position; a term that stands twice counts twice. */
  private bm25(text: string): Map<number, number> {
    const { ends, places, counts, lengths, header } = this.index;
    const { k1, b, averageLength } = header;
    const found = new Map<number, number>();
    for (const token of this.encoder.terms(text)) {
      const list = this.listOf.get(token);
      if (list === undefined) continue;
      const [from, to] = [list ? ends[list - 1] : 0, ends[list]];
      const idf = Math.log1p((this.size - (to - from) + 0.5) / (to - from + 0.5));
      for (let i = from; i < to; i++) {
        const length = k1 * (1 - b + (b * lengths[places[i]]) / averageLength);
        found.set(places[i], (found.get(places[i]) ?? 0) + (idf * counts[i]) / (counts[i] + length));
      }
    }
    return found;
  }
}
