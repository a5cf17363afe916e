/** @file Reverse experience replay: buffers of the stream, each learned from its end to its beginning. */
import type { StreamMethod } from './stream.ts';

/**
 * The stream in buffers; `gap` examples after each are left out, so that neighbouring buffers depend less on each other. Each
 * buffer is learned in reverse: with a buffer of 3 and no gap the order of 1..6 is 3, 2, 1, 6, 5, 4. The last buffer may be
 * shorter.
 *
 * @source Kowshik et al. 2021 (arXiv 2103.05896)
 */
export const reverse: StreamMethod = {
  name: 'reverse',
  readsSurprise: false,
  repeats: false,
  learned(n, { buffer, gap }) {
    const whole = Math.floor(n / (buffer + gap));
    return whole * buffer + Math.min(buffer, n - whole * (buffer + gap));
  },
  order({ length, buffer, gap }) {
    const order: number[] = [];
    for (let from = 0; from < length; from += buffer + gap)
      for (let i = Math.min(length, from + buffer) - 1; i >= from; i--) order.push(i);
    return Int32Array.from(order);
  },
};
