/** @file An approximate index (usearch's HNSW) compared with exact search: recall and speed. */
import type { RunControl } from '../common/progress.ts';
import { quantile } from '../math/resampling.ts';
import { search } from './exact-search.ts';
import { loadUsearch } from './graph/usearch.ts';

/** Parameters of the approximate index. */
export interface AnnOptions extends RunControl {
  /** Neighbours asked for. */
  k?: number;
  /** usearch's own: edges a node, candidates while adding and while searching; 0 for its defaults. */
  connectivity?: number;
  expansionAdd?: number;
  expansionSearch?: number;
}

/** Vectors added at a time. */
const CHUNK = 8192;

/**
 * Builds an index over the documents and compares it with exact search.
 * @param queries [n, dimensions] row-major, L2-normalised or not: the metric is the dot product
 * @param documents [m, dimensions] row-major
 * @throws InputError where the optional package usearch is not installed
 */
export async function measureIndex(
  queries: Float32Array,
  documents: Float32Array,
  dimensions: number,
  options: AnnOptions = {},
): Promise<IndexFigures> {
  const { Index, MetricKind, ScalarKind } = await loadUsearch('leave out --index: search is exact without it');
  const m = documents.length / dimensions;
  const n = queries.length / dimensions;
  const k = Math.min(options.k ?? 10, m);
  const index = new Index({
    dimensions,
    metric: MetricKind.IP,
    quantization: ScalarKind.F32,
    connectivity: options.connectivity ?? 0,
    expansion_add: options.expansionAdd ?? 0,
    expansion_search: options.expansionSearch ?? 0,
    multi: false,
  });
  const started = performance.now();
  for (let at = 0; at < m; at += CHUNK) {
    options.signal?.throwIfAborted();
    const end = Math.min(m, at + CHUNK);
    const keys = BigUint64Array.from({ length: end - at }, (_, i) => BigInt(at + i));
    index.add(keys, documents.subarray(at * dimensions, end * dimensions));
    options.onProgress?.({ stage: 'index', done: end, total: m, unit: 'documents' });
    await new Promise(setImmediate);
  }
  const buildSeconds = (performance.now() - started) / 1000;
  const exact = await search(queries, documents, dimensions, k, options);
  const times: number[] = [];
  let found = 0;
  for (let i = 0; i < n; i++) {
    options.signal?.throwIfAborted();
    const before = performance.now();
    const { keys } = index.search(queries.subarray(i * dimensions, (i + 1) * dimensions), k, 1);
    times.push(performance.now() - before);
    const near = new Set(Array.from(exact.indices.subarray(i * exact.k, (i + 1) * exact.k)));
    for (const key of keys) if (near.has(Number(key))) found++;
  }
  return {
    name: 'usearch',
    documents: m,
    dimensions,
    k,
    recall: found / (n * k),
    buildSeconds,
    queryMilliseconds: quantile(times, 0.5),
    exactMilliseconds: await exactMilliseconds(queries, documents, dimensions, k),
  };
}

/** Median of exact searches of one query at a time. */
async function exactMilliseconds(
  queries: Float32Array,
  documents: Float32Array,
  dimensions: number,
  k: number,
): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < Math.min(12, queries.length / dimensions); i++) {
    const before = performance.now();
    await search(queries.subarray(i * dimensions, (i + 1) * dimensions), documents, dimensions, k);
    times.push(performance.now() - before);
  }
  return quantile(times.slice(Math.min(2, times.length >> 1)), 0.5);
}

export interface IndexFigures {
  name: string;
  documents: number;
  dimensions: number;
  k: number;
  /** Share of the exact k nearest that the index found. */
  recall: number;
  buildSeconds: number;
  /** Medians, one query at a time. */
  queryMilliseconds: number;
  exactMilliseconds: number;
}
