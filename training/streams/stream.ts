/** @file The interface of replay methods: in which order the examples of a stream are learned. */
import type { Random } from '../../math/random.ts';

export interface StreamSettings {
  /** Examples that a method holds at a time. */
  buffer: number;
  /** Examples that are left out after each buffer. */
  gap: number;
  /** Share of the batches that end at a surprising example; the others are drawn uniformly. */
  surprising: number;
}

/** Consecutive examples of a stream: a whole pass, or one buffer for a method that reads surprise. */
export interface StreamPart extends StreamSettings {
  /** Number of examples. */
  length: number;
  /** Sizes of the batches that they are learned in. */
  batches: readonly number[];
  random: Random;
  /** [length] the loss of each example with the current weights, for a method that reads it. */
  surprise?: ArrayLike<number>;
}

export interface StreamMethod {
  readonly name: string;
  /** Whether the order follows the losses of the current student: then it is made a buffer at a time, as training reaches it. */
  readonly readsSurprise: boolean;
  /** Whether a pass may learn an example several times, or never. */
  readonly repeats: boolean;
  /** Number of examples that a pass over n learns. */
  learned(n: number, settings: StreamSettings): number;
  /** Positions within the part in the order of learning. */
  order(part: StreamPart): Int32Array;
}
