/** @file The interface of vector codecs. */

/** Vectors, row-major [n, dimensions]. */
export interface Vectors {
  readonly data: Float32Array;
  readonly dimensions: number;
}

/** Parameters that a codec learned from vectors, as saved in files. */
export type Learned = Readonly<Record<string, Float32Array>>;

/**
 * An encoding. `test/retrieval/codecs.test.ts` holds every member to this.
 * Scores are inner products of a float query with the vector of a code.
 */
export interface Codec {
  /** For docs and help. */
  readonly about: string;
  /** Bytes a vector. */
  bytes(dimensions: number): number;
  /** From a sample of the vectors; {} where there is nothing to learn. */
  learn(sample: Vectors, seed: number): Learned;
  /** Codes of all rows, `bytes(dimensions)` each. */
  encode(vectors: Vectors, learned: Learned): Uint8Array;
  /** Vectors of codes, as far as these keep them; absent where too little is kept. @returns [n, dimensions] */
  decode?(codes: Uint8Array, dimensions: number): Float32Array;
  /** Prepares one query. The function scores the codes `from` to `to` into `out[0 ..]`. */
  scorer(
    query: Float32Array,
    learned: Learned,
  ): (codes: Uint8Array, from: number, to: number, out: Float32Array) => void;
}

/** Row i of a table of vectors. */
export const rowOf = ({ data, dimensions }: Vectors, i: number): Float32Array =>
  data.subarray(i * dimensions, (i + 1) * dimensions);
