/**
 * @file A graph of near vectors (HNSW) by the optional package usearch: built in memory, saved to a file, and opened by mapping
 * that file.
 * @source Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using HNSW graphs", IEEE TPAMI 42 (2020)
 */
import type { Index } from 'usearch';
import { InputError } from '../../common/errors.ts';
import type { Vectors } from '../codecs/index.ts';

/** How a graph is built and searched. */
export interface GraphSettings {
  /** Candidates that a search keeps: more find more of the nearest and take longer. */
  readonly expansion: number;
  /** Edges a vector, and candidates while one is added; usearch's own where absent (16 and 128). */
  readonly connectivity?: number;
  readonly expansionAdd?: number;
  /** Documents from which a part of the index has a graph; smaller ones are scanned, which is as fast. */
  readonly from?: number;
}

/** Below, a scan takes as long as a walk through the graph. */
const FROM = 8192;
/** Whether a part of so many documents has a graph. */
export const hasGraph = (count: number, { from = FROM }: GraphSettings): boolean => count >= from;

/** Vectors added at a time; the event loop turns between. */
const CHUNK = 2048;

/** @throws InputError where the optional package is not installed */
export async function loadUsearch(otherwise: string): Promise<typeof import('usearch')> {
  try {
    return await import('usearch');
  } catch (cause) {
    throw new InputError({
      code: 'index.missing',
      subject: `the package usearch cannot be loaded (${(cause as Error).message.split('\n')[0]})`,
      remedy: `install it with npm install usearch, or ${otherwise}`,
      cause,
    });
  }
}

/** Whether the optional package is installed. */
export const usearchIsHere = (): Promise<boolean> =>
  loadUsearch('').then(
    () => true,
    () => false,
  );

/** Vectors by their position, and the edges between near ones. */
export class VectorGraph {
  private readonly index: Index;

  private constructor(index: Index) {
    this.index = index;
  }

  /** Builds a graph on all threads: two builds may differ in a few edges. */
  static async build({ data, dimensions: D }: Vectors, settings: GraphSettings): Promise<VectorGraph> {
    const index = await emptyIndex(D, settings);
    const n = data.length / D;
    for (let at = 0; at < n; at += CHUNK) {
      const end = Math.min(n, at + CHUNK);
      const keys = BigUint64Array.from({ length: end - at }, (_, i) => BigInt(at + i));
      index.add(keys, data.subarray(at * D, end * D));
      await new Promise((go) => setImmediate(go));
    }
    return new VectorGraph(index);
  }

  /** Maps a saved graph: the system reads its pages when they are first needed. @throws Error where it is none of these vectors */
  static async view(
    file: string,
    { count, dimensions }: { count: number; dimensions: number },
    settings: GraphSettings,
  ): Promise<VectorGraph> {
    const index = await emptyIndex(dimensions, settings);
    index.view(file);
    if (index.size() !== count || index.dimensions() !== dimensions)
      throw new Error(`${index.size()} vectors of ${index.dimensions()} numbers, expected ${count} of ${dimensions}`);
    return new VectorGraph(index);
  }

  /** @throws Error where the file cannot be written */
  save(file: string): void {
    this.index.save(file);
  }

  /** Positions of about the n nearest by inner product, no order; fewer where the walk finds no more. */
  search(query: Float32Array, n: number): Int32Array {
    const { keys } = this.index.search(query, n, 1);
    return Int32Array.from(keys, Number);
  }
}

async function emptyIndex(
  dimensions: number,
  { connectivity, expansionAdd, expansion }: GraphSettings,
): Promise<Index> {
  const { Index, MetricKind, ScalarKind } = await loadUsearch('make the index again without --index usearch');
  return new Index({
    dimensions,
    metric: MetricKind.IP,
    // What is found is scored again by the index's own codes.
    quantization: ScalarKind.F16,
    connectivity: connectivity ?? 0,
    expansion_add: expansionAdd ?? 0,
    expansion_search: expansion,
    multi: false,
  });
}
