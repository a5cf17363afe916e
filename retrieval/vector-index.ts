/** @file Search over encoded vectors: a scan of short codes finds, longer ones re-score. */
import { InputError } from '../common/errors.ts';
import { Random } from '../math/random.ts';
import { assign, type Cells, cellsOf, inCells, learnCells, nearCells, nearestOf } from './cells.ts';
import { type CodecName, codecs, type Learned, type Vectors } from './codecs/index.ts';
import { place } from './codecs/kernel.ts';
import { cutTo } from './exact-search.ts';
import { type GraphSettings, hasGraph, VectorGraph } from './graph/usearch.ts';
import { type Top, topK, topKByBins } from './top-k.ts';

/** How an index encodes, scans and re-scores its vectors. */
export interface IndexSettings {
  /** What is scanned. */
  readonly codec: CodecName;
  /** What the best of the scan are scored with again; absent: the scan's scores are final. */
  readonly rescore?: { readonly codec: CodecName; readonly count: number };
  /** Leading dimensions that are scanned (Matryoshka or rotated vectors), brought to unit length; all by default. */
  readonly dimensions?: number;
  /** Bins that the best are found by, in place of an exact selection. */
  readonly bins?: number;
  /** Documents in so many cells, of which a search scans the `probes` whose centroids are nearest; all are scanned without. */
  readonly cells?: { readonly count: number; readonly probes: number };
  /** A graph of near vectors (usearch) that finds what the codec then scores, in place of a scan. */
  readonly graph?: GraphSettings;
}

/** Scanned as whole numbers, nothing learned: exact to 0.001 at a quarter of the bytes. */
export const defaultSettings: IndexSettings = { codec: 'int8' };

/** Encoded vectors of a part of an index. */
export interface EncodedPart {
  readonly count: number;
  /** Codes of the codec that is scanned. */
  readonly codes: Uint8Array;
  /** Codes of the codec that re-scores; empty without one. */
  readonly exact: Uint8Array;
  /** Where the codes that are scanned stand, where settings have cells. */
  readonly cells?: Cells;
  /** Where settings have one and the part is large enough. */
  readonly graph?: VectorGraph;
}

/** What scanning and re-scoring learned from a sample of the first vectors. */
export interface LearnedSettings {
  readonly codes: Learned;
  readonly exact: Learned;
  readonly cells: Learned;
}

export const nothingLearned: LearnedSettings = { codes: {}, exact: {}, cells: {} };

/** @throws InputError where settings do not fit the vectors */
export function checkSettings(settings: IndexSettings, dimensions: number): void {
  const fail = (subject: string, expected: string, remedy: string): never => {
    throw new InputError({ code: 'index.settings', subject, expected, remedy });
  };
  const prefix = settings.dimensions ?? dimensions;
  if (!Number.isInteger(prefix) || prefix < 1 || prefix > dimensions)
    fail(`an index of ${prefix} dimensions`, `1 to ${dimensions}, the width of the vectors`, 'choose fewer dimensions');
  for (const name of [settings.codec, settings.rescore?.codec])
    if (name !== undefined && !Object.hasOwn(codecs, name))
      fail(`there is no encoding '${name}'`, `one of ${Object.keys(codecs).join(', ')}`, 'name one of these');
  const parts = /^pq(\d+)$/.exec(settings.codec)?.[1];
  if (parts && prefix % Number(parts))
    fail(
      `${settings.codec} cuts a vector in ${parts} parts, and ${prefix} is not a multiple of that`,
      `a width that ${parts} divides`,
      `choose another encoding, or ${prefix - (prefix % Number(parts))} dimensions`,
    );
  const { cells } = settings;
  if (cells && !(Number.isInteger(cells.count) && cells.count >= 1 && cells.count <= 65_536))
    fail(
      `an index of ${cells.count} cells`,
      'a whole number from 1 to 65,536',
      'choose about the root of the number of documents',
    );
  if (cells && !(Number.isInteger(cells.probes) && cells.probes >= 1))
    fail(`a search of ${cells.probes} cells`, 'a whole number above 0', 'choose for instance 10');
  const { graph } = settings;
  if (graph) {
    const other = (['cells', 'bins', 'dimensions'] as const).find((name) => settings[name] !== undefined);
    if (other) fail(`a graph together with ${other}`, 'one of them', 'leave the other out');
    if (!codecs[settings.codec].decode)
      fail(
        `a graph over ${settings.codec}`,
        'a codec that keeps vectors well enough: int8, float16 or float32',
        'choose one of these',
      );
    for (const [name, value] of Object.entries(graph))
      if (value !== undefined && !(Number.isInteger(value) && value >= 1))
        fail(`a graph whose ${name} is ${value}`, 'a whole number above 0', 'choose for instance 64');
  }
  if (settings.rescore && !(settings.rescore.count >= 1))
    fail(`re-scoring ${settings.rescore.count} vectors`, 'at least one', 'choose for instance 100');
}

/** Centroids, and the cell of each vector. */
export interface KnownCells {
  readonly centroids: Float32Array;
  readonly nearest: Int32Array;
}

/** Cells of some vectors, for several encodings of them. */
export async function knownCells(vectors: Vectors, count: number, seed = 0): Promise<KnownCells> {
  const centroids = await learnCells(vectors, count, seed);
  return { centroids, nearest: await assign(vectors, centroids) };
}

/** Vectors that encodings are learned from. */
const SAMPLE = 32_768;

/** @param vectors of which a random part is looked at; @param known cells that were learned before */
export async function learnSettings(
  vectors: Vectors,
  settings: IndexSettings,
  seed = 0,
  known?: KnownCells,
): Promise<LearnedSettings> {
  const { codec, rescore, cells, dimensions } = settings;
  const sample = drawn(vectors, SAMPLE, seed);
  return {
    codes: codecs[codec].learn(leading(sample, dimensions), seed),
    exact: rescore ? codecs[rescore.codec].learn(sample, seed) : {},
    cells: cells ? { centroids: known?.centroids ?? (await learnCells(vectors, cells.count, seed)) } : {},
  };
}

/** Whether there is anything to learn before the first vectors are encoded. */
export const needsLearning = ({ codec, rescore, cells }: IndexSettings): boolean =>
  cells !== undefined || /^pq/.test(codec) || /^pq/.test(rescore?.codec ?? '');

export async function encodePart(
  vectors: Vectors,
  settings: IndexSettings,
  learned: LearnedSettings,
  known?: KnownCells,
): Promise<EncodedPart> {
  const { codec, rescore, dimensions, cells: wanted } = settings;
  const codes = codecs[codec].encode(leading(vectors, dimensions), learned.codes);
  const count = vectors.data.length / vectors.dimensions;
  const cells = wanted && cellsOf(known?.nearest ?? (await assign(vectors, learned.cells.centroids)), wanted.count);
  const exact = rescore ? codecs[rescore.codec].encode(vectors, learned.exact) : new Uint8Array(0);
  const { graph } = settings;
  return placePart({
    count,
    codes: cells ? inCells(codes, codes.length / count, cells) : codes,
    exact,
    cells,
    ...(graph && hasGraph(count, graph) && { graph: await VectorGraph.build(vectors, graph) }),
  });
}

/** The same part, its codes where they are scanned fast. */
export const placePart = <T extends EncodedPart>(part: T): T => ({
  ...part,
  codes: place(part.codes),
  exact: place(part.exact),
});

/** The same part with a graph, built from its codes, where settings have one and the part is large enough. */
export async function withGraph<T extends EncodedPart>(part: T, { codec, graph }: IndexSettings, dimensions: number) {
  if (!graph || !hasGraph(part.count, graph)) return part;
  const data = codecs[codec].decode?.(part.codes, dimensions) as Float32Array;
  return { ...part, graph: await VectorGraph.build({ data, dimensions }, graph) };
}

/** One part of some documents of several. @param kept the part of each, and its position there */
export function joinParts(kept: readonly (readonly [EncodedPart, number])[], settings: IndexSettings): EncodedPart {
  const take = (of: (p: EncodedPart) => Uint8Array, row: (p: EncodedPart, i: number) => number): Uint8Array => {
    const size = kept.length ? of(kept[0][0]).length / kept[0][0].count : 0;
    const out = new Uint8Array(kept.length * size);
    for (const [k, [part, i]] of kept.entries()) {
      const at = row(part, i) * size;
      out.set(of(part).subarray(at, at + size), k * size);
    }
    return out;
  };
  const codes = take(
    (p) => p.codes,
    (p, i) => p.cells?.rowOf[i] ?? i,
  );
  const exact = take(
    (p) => p.exact,
    (_, i) => i,
  );
  if (!settings.cells) return placePart({ count: kept.length, codes, exact });
  const nearest = new Map([...new Set(kept.map(([p]) => p))].map((p) => [p, nearestOf(p.cells as Cells)]));
  const cells = cellsOf(
    Int32Array.from(kept, ([p, i]) => (nearest.get(p) as Int32Array)[i]),
    settings.cells.count,
  );
  return placePart({ count: kept.length, codes: inCells(codes, codes.length / kept.length, cells), exact, cells });
}

/**
 * The k best of some parts, as positions counted through all of them.
 * @param query [dimensions], of the whole width
 * @param removed positions that are not there any more
 */
export function searchParts(
  query: Float32Array,
  parts: readonly EncodedPart[],
  settings: IndexSettings,
  learned: LearnedSettings,
  k: number,
  removed?: { has(position: number): boolean; readonly size: number },
): Top {
  const total = parts.reduce((n, p) => n + p.count, 0);
  const { rescore, bins } = settings;
  const wanted = Math.min(total, (rescore ? Math.max(k, rescore.count) : k) + (removed?.size ?? 0));
  const { scores, positions } = scan(query, parts, settings, learned, wanted);
  const best = bins ? topKByBins(scores, wanted, bins) : topK(scores, Math.min(wanted, scores.length));
  const found = positions ? inOrder({ ...best, indices: best.indices.map((i) => positions[i]) }) : best;
  const there = removed?.size ? filtered(found, (i) => !removed.has(i)) : found;
  if (!rescore) return cut(there, k);

  const some = there.indices.subarray(0, Math.max(k, rescore.count));
  const exact = scoresAt(query, parts, settings, learned, some);
  return cut(inOrder({ indices: some, scores: exact }), k);
}

/** Best first; of equal scores the lower position first, whatever order a scan found them in. */
function inOrder({ indices, scores }: Top): Top {
  const order = Array.from(indices.keys()).sort((a, b) => scores[b] - scores[a] || indices[a] - indices[b]);
  return { indices: Int32Array.from(order, (i) => indices[i]), scores: Float32Array.from(order, (i) => scores[i]) };
}

/** Scores of every document in turn, or of those in the cells near the query with their positions. */
function scan(
  query: Float32Array,
  parts: readonly EncodedPart[],
  { codec, dimensions, cells, graph }: IndexSettings,
  learned: LearnedSettings,
  wanted: number,
): { scores: Float32Array; positions?: Int32Array } {
  const own = leading({ data: query, dimensions: query.length }, dimensions).data;
  const score = codecs[codec].scorer(own, learned.codes);
  if (graph) return walk(query, parts, graph, score, wanted);
  let at = 0;
  if (!cells) {
    const scores = new Float32Array(parts.reduce((n, p) => n + p.count, 0));
    for (const { codes, count } of parts) {
      score(codes, 0, count, scores.subarray(at, at + count));
      at += count;
    }
    return { scores };
  }
  const sizeOf = (near: Int32Array): number =>
    near.reduce(
      (n, c) => n + parts.reduce((m, p) => m + (p.cells as Cells).starts[c + 1] - (p.cells as Cells).starts[c], 0),
      0,
    );
  const near = nearCells(query, learned.cells.centroids, cells.probes, (some) => sizeOf(some) >= wanted);
  const size = sizeOf(near);
  const [scores, positions] = [new Float32Array(size), new Int32Array(size)];
  let first = 0;
  for (const { codes, count, cells: own } of parts) {
    const { starts, order } = own as Cells;
    for (const c of near) {
      const n = starts[c + 1] - starts[c];
      if (!n) continue;
      score(codes, starts[c], starts[c + 1], scores.subarray(at, at + n));
      for (let i = 0; i < n; i++) positions[at + i] = first + order[starts[c] + i];
      at += n;
    }
    first += count;
  }
  return { scores, positions };
}

/** Scores of what the graphs of parts find near the query, and of every document of parts without one. */
function walk(
  query: Float32Array,
  parts: readonly EncodedPart[],
  { expansion }: GraphSettings,
  score: (codes: Uint8Array, from: number, to: number, out: Float32Array) => void,
  wanted: number,
): { scores: Float32Array; positions: Int32Array } {
  let first = 0;
  const found = parts.map(({ graph, count, codes }) => {
    const asked = Math.min(count, Math.max(expansion, wanted));
    const rows = graph && asked < count ? graph.search(query, asked) : undefined;
    // A walk that ends early leaves documents out that the list still has place for.
    const near = rows && rows.length >= Math.min(count, wanted) ? rows : undefined;
    const scores = new Float32Array(near?.length ?? count);
    if (near) for (const [i, row] of near.entries()) score(codes, row, row + 1, scores.subarray(i, i + 1));
    else score(codes, 0, count, scores);
    const positions = near ? near.map((row) => first + row) : Int32Array.from({ length: count }, (_, i) => first + i);
    first += count;
    return { scores, positions };
  });
  const size = found.reduce((n, f) => n + f.scores.length, 0);
  const [scores, positions] = [new Float32Array(size), new Int32Array(size)];
  let at = 0;
  for (const part of found) {
    scores.set(part.scores, at);
    positions.set(part.positions, at);
    at += part.scores.length;
  }
  return { scores, positions };
}

/**
 * Scores of some positions, as a search gives them: by the codec that re-scores, or else by the one that is scanned.
 * @param query [dimensions], of the whole width
 */
export function scoresAt(
  query: Float32Array,
  parts: readonly EncodedPart[],
  settings: IndexSettings,
  learned: LearnedSettings,
  positions: ArrayLike<number>,
): Float32Array {
  const { rescore, codec, dimensions } = settings;
  const score = rescore
    ? codecs[rescore.codec].scorer(query, learned.exact)
    : codecs[codec].scorer(leading({ data: query, dimensions: query.length }, dimensions).data, learned.codes);
  const scores = new Float32Array(positions.length);
  const one = new Float32Array(1);
  for (let i = 0; i < positions.length; i++) {
    let [position, p] = [positions[i], 0];
    while (position >= parts[p].count) position -= parts[p++].count;
    const row = rescore ? position : (parts[p].cells?.rowOf[position] ?? position);
    score(rescore ? parts[p].exact : parts[p].codes, row, row + 1, one);
    scores[i] = one[0];
  }
  return scores;
}

/** The first numbers of each row, at unit length again where some are left out. */
const leading = ({ data, dimensions }: Vectors, width = dimensions): Vectors => ({
  data: cutTo(width, { data, dimensions }),
  dimensions: width,
});

const cut = ({ indices, scores }: Top, k: number): Top => ({
  indices: indices.subarray(0, k),
  scores: scores.subarray(0, k),
});

function filtered({ indices, scores }: Top, keep: (position: number) => boolean): Top {
  const kept = Array.from(indices.keys()).filter((i) => keep(indices[i]));
  return { indices: Int32Array.from(kept, (i) => indices[i]), scores: Float32Array.from(kept, (i) => scores[i]) };
}

function drawn({ data, dimensions: D }: Vectors, most: number, seed: number): Vectors {
  const n = data.length / D;
  if (n <= most) return { data, dimensions: D };
  const order = Random.of(seed, 'sample').shuffle(Int32Array.from({ length: n }, (_, i) => i));
  const out = new Float32Array(most * D);
  for (let i = 0; i < most; i++) out.set(data.subarray(order[i] * D, (order[i] + 1) * D), i * D);
  return { data: out, dimensions: D };
}
