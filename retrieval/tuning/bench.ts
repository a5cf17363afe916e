/** @file Settings measured: recall of the exact nearest and milliseconds a query, over documents that are encoded once for many settings. */
import { quantile } from '../../math/resampling.ts';
import { codecs, type Vectors } from '../codecs/index.ts';
import { place } from '../codecs/kernel.ts';
import { openExactSearch } from '../exact-search.ts';
import type { Point } from '../tuned.ts';
import {
  type EncodedPart,
  encodePart,
  type IndexSettings,
  type KnownCells,
  knownCells,
  type LearnedSettings,
  learnSettings,
  searchParts,
} from '../vector-index.ts';

/** The exact nearest of some queries: a document counts as found where its score is at least the k-th. */
export interface Truth {
  readonly k: number;
  /** [queries] the k-th best score. */
  readonly least: Float32Array;
  /** Median of exact searches, one query at a time. */
  readonly ms: number;
}

const TIMED = 24;
/** Scores of the same vectors differ by rounding. */
const SLACK = 1e-6;

export async function exactOf(queries: Float32Array, { data, dimensions: D }: Vectors, k: number): Promise<Truth> {
  const exact = await openExactSearch(data, D, k);
  try {
    const hits = await exact.find(queries);
    const n = queries.length / D;
    const times: number[] = [];
    for (let i = 0; i < Math.min(n, TIMED); i++) {
      const before = performance.now();
      await exact.find(queries.subarray(i * D, (i + 1) * D));
      times.push(performance.now() - before);
    }
    return {
      k: hits.k,
      least: Float32Array.from({ length: n }, (_, i) => hits.scores[i * hits.k + hits.k - 1]),
      ms: quantile(times, 0.5),
    };
  } finally {
    await exact.release();
  }
}

/** Documents in the encodings that were asked for, kept until they are let go. */
export class TuningBench {
  private readonly built = new Map<string, Promise<{ part: EncodedPart; learned: LearnedSettings }>>();
  private readonly cells = new Map<number, Promise<KnownCells>>();

  constructor(
    private readonly documents: Vectors,
    private readonly seed: number,
  ) {}

  /** Encodes the documents where that was not done. */
  prepare(settings: IndexSettings): Promise<{ part: EncodedPart; learned: LearnedSettings }> {
    const key = encodingOf(settings);
    let made = this.built.get(key);
    if (!made) {
      made = this.encode(settings);
      this.built.set(key, made);
    }
    return made;
  }

  /** Frees the encodings that none of these settings has. */
  keep(settings: readonly IndexSettings[]): void {
    const wanted = new Set(settings.map(encodingOf));
    for (const key of this.built.keys()) if (!wanted.has(key)) this.built.delete(key);
  }

  private async encode(settings: IndexSettings) {
    const { rescore, ...scanned } = settings;
    if (rescore) {
      // What is scanned does not depend on what is re-scored.
      const { part, learned } = await this.prepare(scanned);
      const { exact } = await learnSettings(this.documents, { codec: 'float32', rescore }, this.seed);
      return {
        part: { ...part, exact: place(codecs[rescore.codec].encode(this.documents, exact)) },
        learned: { ...learned, exact },
      };
    }
    const known = settings.cells && (await this.cellsOf(settings.cells.count));
    const learned = await learnSettings(this.documents, settings, this.seed, known);
    return { part: await encodePart(this.documents, settings, learned, known), learned };
  }

  private cellsOf(count: number): Promise<KnownCells> {
    const made = this.cells.get(count) ?? knownCells(this.documents, count, this.seed);
    this.cells.set(count, made);
    return made;
  }

  /** @param rows positions of the queries that are asked */
  async measure(
    settings: IndexSettings,
    queries: Float32Array,
    { k, least }: Truth,
    rows: ArrayLike<number>,
  ): Promise<Point> {
    const { part, learned } = await this.prepare(settings);
    const { data, dimensions: D } = this.documents;
    const queryOf = (i: number) => queries.subarray(rows[i] * D, (rows[i] + 1) * D);
    for (let i = 0; i < Math.min(3, rows.length); i++) searchParts(queryOf(i), [part], settings, learned, k);
    const [times, recalls] = [new Float64Array(rows.length), new Float64Array(rows.length)];
    for (let i = 0; i < rows.length; i++) {
      const query = queryOf(i);
      const before = performance.now();
      const { indices } = searchParts(query, [part], settings, learned, k);
      times[i] = performance.now() - before;
      let found = 0;
      for (const at of indices) {
        let score = 0;
        for (let d = 0; d < D; d++) score += query[d] * data[at * D + d];
        const needed = least[rows[i]];
        if (score >= needed - SLACK * Math.max(1, Math.abs(needed))) found++;
      }
      recalls[i] = Math.min(1, found / k);
      if (i % 64 === 63) await new Promise((go) => setImmediate(go));
    }
    const n = rows.length;
    const recall = recalls.reduce((a, b) => a + b, 0) / n;
    const variance = recalls.reduce((a, r) => a + (r - recall) ** 2, 0) / Math.max(1, n - 1);
    return {
      settings,
      recall,
      error: Math.sqrt(variance / n),
      ms: quantile(times, 0.5),
      p95: quantile(times, 0.95),
      queries: n,
    };
  }
}

/** What decides on codes; the rest is decided by each search. */
const encodingOf = ({ codec, rescore, dimensions, cells, graph }: IndexSettings): string =>
  JSON.stringify([codec, rescore?.codec, dimensions, cells?.count, graph && { ...graph, expansion: 0 }]);
