/** @file Search over encoded vectors: a scan of short codes finds, longer ones re-score. */
import { InputError } from '../common/errors.ts';
import { type CodecName, codecs, type Learned, type Vectors } from './codecs/index.ts';
import { cutTo } from './exact-search.ts';
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
}

/** Encoded vectors of a part of an index. */
export interface EncodedPart {
  readonly count: number;
  /** Codes of the codec that is scanned. */
  readonly codes: Uint8Array;
  /** Codes of the codec that re-scores; empty without one. */
  readonly exact: Uint8Array;
}

/** What scanning and re-scoring learned from a sample of the first vectors. */
export interface LearnedSettings {
  readonly codes: Learned;
  readonly exact: Learned;
}

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
  if (settings.rescore && !(settings.rescore.count >= 1))
    fail(`re-scoring ${settings.rescore.count} vectors`, 'at least one', 'choose for instance 100');
}

export function learnSettings(sample: Vectors, settings: IndexSettings, seed = 0): LearnedSettings {
  return {
    codes: codecs[settings.codec].learn(leading(sample, settings.dimensions), seed),
    exact: settings.rescore ? codecs[settings.rescore.codec].learn(sample, seed) : {},
  };
}

export function encodePart(vectors: Vectors, settings: IndexSettings, learned: LearnedSettings): EncodedPart {
  return {
    count: vectors.data.length / vectors.dimensions,
    codes: codecs[settings.codec].encode(leading(vectors, settings.dimensions), learned.codes),
    exact: settings.rescore ? codecs[settings.rescore.codec].encode(vectors, learned.exact) : new Uint8Array(0),
  };
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
  const scores = new Float32Array(total);
  const scan = codecs[settings.codec].scorer(
    leading({ data: query, dimensions: query.length }, settings.dimensions).data,
    learned.codes,
  );
  let at = 0;
  for (const part of parts) {
    scan(part.codes, 0, part.count, scores.subarray(at, at + part.count));
    at += part.count;
  }
  const found = bins ? topKByBins(scores, wanted, bins) : topK(scores, wanted);
  const there = removed?.size ? filtered(found, (i) => !removed.has(i)) : found;
  if (!rescore) return cut(there, k);

  const some = there.indices.subarray(0, Math.max(k, rescore.count));
  const exact = scoresAt(query, parts, settings, learned, some);
  // Of equal scores the lower position first, whatever order the scan found them in.
  const order = Array.from(some.keys())
    .sort((a, b) => exact[b] - exact[a] || some[a] - some[b])
    .slice(0, k);
  return { indices: Int32Array.from(order, (i) => some[i]), scores: Float32Array.from(order, (i) => exact[i]) };
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
  const scan = rescore
    ? codecs[rescore.codec].scorer(query, learned.exact)
    : codecs[codec].scorer(leading({ data: query, dimensions: query.length }, dimensions).data, learned.codes);
  const scores = new Float32Array(positions.length);
  const one = new Float32Array(1);
  for (let i = 0; i < positions.length; i++) {
    let [position, p] = [positions[i], 0];
    while (position >= parts[p].count) position -= parts[p++].count;
    scan(rescore ? parts[p].exact : parts[p].codes, position, position + 1, one);
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
