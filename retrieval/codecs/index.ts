/** @file The encodings of vectors by name; adding one is a file and a line here. */
import { binary } from './binary.ts';
import type { Codec } from './codec.ts';
import { product } from './product.ts';
import { float16, float32, int4, int8 } from './scalar.ts';

export const codecs = {
  binary,
  float16,
  float32,
  int4,
  int8,
  pq16: product(16),
  pq32: product(32),
  pq48: product(48),
} as const satisfies Record<string, Codec>;

/** Names of the encodings of vectors. */
export type CodecName = keyof typeof codecs;
export type { Codec, Learned, Vectors } from './codec.ts';
