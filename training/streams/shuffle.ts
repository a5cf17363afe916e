/** @file A shuffle buffer: a random one of the last examples, each once. */
import type { StreamMethod } from './stream.ts';

/**
 * Holds `buffer` examples. Each time one of them is drawn at random and the next of the stream takes its place; at the end of
 * the stream the buffer is emptied in the same way. A buffer of 1 is the order of arrival, one of the whole stream a shuffle.
 *
 * @source `tf.data.Dataset.shuffle`
 */
export const shuffle: StreamMethod = {
  name: 'shuffle',
  readsSurprise: false,
  repeats: false,
  learned: (n) => n,
  order({ length, buffer, random }) {
    const held = Array.from({ length: Math.min(buffer, length) }, (_, i) => i);
    return Int32Array.from({ length }, (_, drawn) => {
      const at = random.integer(held.length);
      const chosen = held[at];
      const next = drawn + buffer;
      if (next < length) held[at] = next;
      else held[at] = held[held.length - 1];
      if (next >= length) held.pop();
      return chosen;
    });
  },
};
