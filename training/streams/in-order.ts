/** @file A stream as it arrives. */
import type { StreamMethod } from './stream.ts';

/** No replay: each example once, in the order of arrival. */
export const inOrder: StreamMethod = {
  name: 'in-order',
  readsSurprise: false,
  repeats: false,
  learned: (n) => n,
  order: ({ length }) => Int32Array.from({ length }, (_, i) => i),
};
