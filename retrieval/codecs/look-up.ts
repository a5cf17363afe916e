/** @file Scores of codes as sums of a number for each byte: signs and product quantisation. */
import type { Codec } from './codec.ts';
import { placedScan } from './kernel.ts';

/** @param sums [bytes, 256], what each value of each byte adds */
export function lookedUp(sums: Float32Array, bytes: number): ReturnType<Codec['scorer']> {
  const plain = (codes: Uint8Array, from: number, to: number, out: Float32Array): void => {
    for (let i = from; i < to; i++) {
      let s = 0;
      for (let j = 0, at = i * bytes; j < bytes; j++) s += sums[j * 256 + codes[at + j]];
      out[i - from] = s;
    }
  };
  if (bytes % 4) return plain;
  return placedScan(sums, bytes, { kernel: 'lookUp' }, plain);
}
