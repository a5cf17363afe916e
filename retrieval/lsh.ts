/** @file Near vectors by random hyperplanes: equal bits in one of several tables, with a chance that a formula gives. */
import { Random } from '../math/random.ts';

export interface LshOptions {
  dimensions: number;
  /** Hyperplanes a table, at most 30, and tables. */
  bits?: number;
  tables?: number;
  seed?: number;
}

/** Hyperplanes a table, and tables: two vectors at 20 degrees meet in one with probability 0.99. */
export const LSH_BITS = 12;
export const LSH_TABLES = 16;

/**
 * The chance that two vectors meet in at least one of T tables of b bits: 1 - (1 - (1 - angle / pi)^b)^T.
 * @param angle between them, in radians
 * @source Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002; the use as a memory whose keys are
 * sketches and whose values are pointers: Panigrahy, Wang and Zaheer, AISTATS 2021
 */
export const meetingProbability = (angle: number, bits = LSH_BITS, tables = LSH_TABLES): number =>
  1 - (1 - (1 - angle / Math.PI) ** bits) ** tables;

/** Keys by the signs of their vectors' products with random hyperplanes. */
export class LshTables<K> {
  private readonly bits: number;
  private readonly dimensions: number;
  private readonly planes: Float32Array; // [tables, bits, dimensions]
  private readonly tables: Map<number, Set<K>>[];

  constructor({ dimensions, bits = LSH_BITS, tables = LSH_TABLES, seed = 0 }: LshOptions) {
    this.bits = bits;
    this.dimensions = dimensions;
    const random = Random.of(seed, 'hyperplanes');
    this.planes = Float32Array.from({ length: tables * bits * dimensions }, () => random.normal());
    this.tables = Array.from({ length: tables }, () => new Map());
  }

  /** Puts a key under a vector. */
  add(key: K, vector: Float32Array): void {
    for (const [t, code] of this.codes(vector).entries()) {
      const bucket = this.tables[t].get(code);
      if (bucket) bucket.add(key);
      else this.tables[t].set(code, new Set([key]));
    }
  }

  /** Takes a key away that was put under this vector. */
  remove(key: K, vector: Float32Array): void {
    for (const [t, code] of this.codes(vector).entries()) {
      const bucket = this.tables[t].get(code);
      bucket?.delete(key);
      if (bucket?.size === 0) this.tables[t].delete(code);
    }
  }

  /** Keys that meet a vector in at least one table. */
  near(vector: Float32Array): Set<K> {
    const found = new Set<K>();
    for (const [t, code] of this.codes(vector).entries())
      for (const key of this.tables[t].get(code) ?? []) found.add(key);
    return found;
  }

  private codes(vector: Float32Array): number[] {
    const { bits, dimensions: D, planes } = this;
    return this.tables.map((_, t) => {
      let code = 0;
      for (let b = 0; b < bits; b++) {
        const at = (t * bits + b) * D;
        let product = 0;
        for (let d = 0; d < D; d++) product += planes[at + d] * vector[d];
        code = (code << 1) | Number(product >= 0);
      }
      return code;
    });
  }
}
