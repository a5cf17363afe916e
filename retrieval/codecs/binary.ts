/** @file Signs: one bit a dimension. A float query is scored with +1 and -1, which ranks far better than counting equal bits. */
import type { Codec } from './codec.ts';
import { lookedUp } from './look-up.ts';

export const binary: Codec = {
  about: 'the sign of each number, one bit; re-score what it finds',
  bytes: (dimensions) => Math.ceil(dimensions / 8),
  learn: () => ({}),
  encode: ({ data, dimensions }) => {
    const size = binary.bytes(dimensions);
    const n = data.length / dimensions;
    const codes = new Uint8Array(n * size);
    for (let i = 0; i < n; i++)
      for (let k = 0; k < dimensions; k++) if (data[i * dimensions + k] > 0) codes[i * size + (k >> 3)] |= 1 << (k & 7);
    return codes;
  },
  scorer: (query) => {
    // Of every byte the sum of its eight signs' products.
    const size = binary.bytes(query.length);
    const sums = new Float32Array(size * 256);
    for (let j = 0; j < size; j++)
      for (let byte = 0; byte < 256; byte++) {
        let s = 0;
        for (let bit = 0; bit < 8; bit++) s += (query[8 * j + bit] ?? 0) * ((byte >> bit) & 1 ? 1 : -1);
        sums[j * 256 + byte] = s;
      }
    return lookedUp(sums, size);
  },
};
