/** @file Seeded random streams, one per component, so that a new consumer never shifts the numbers of another. */

import { createHash } from 'node:crypto';
import { xoroshiro128plus, xoroshiro128plusFromState } from 'pure-rand/generator/xoroshiro128plus';

/** A stream of random numbers whose state can be saved and restored. */
export class Random {
  private readonly generator;

  private constructor(generator: ReturnType<typeof xoroshiro128plus>) {
    this.generator = generator;
  }

  /** @param name which component draws, e.g. `random(7, 'batches')`: other names are independent streams. */
  static of(seed: number, name = ''): Random {
    const digest = createHash('sha256').update(`${seed}\0${name}`).digest();
    return new Random(xoroshiro128plus(digest.readInt32LE(0)));
  }

  static fromState(state: readonly number[]): Random {
    return new Random(xoroshiro128plusFromState(state));
  }

  get state(): readonly number[] {
    return this.generator.getState();
  }

  /** Uniform in [0, 1) with 53 bits. */
  uniform(): number {
    const high = this.generator.next() >>> 5;
    const low = this.generator.next() >>> 6;
    return (high * 67_108_864 + low) / 9_007_199_254_740_992;
  }

  /** Uniform integer in [0, n). */
  integer(n: number): number {
    return Math.floor(this.uniform() * n);
  }

  /** Standard normal (Box-Muller). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Shuffles in place (Fisher-Yates) and returns the array. */
  shuffle<T extends { [index: number]: unknown; length: number }>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      const held = items[i];
      items[i] = items[j];
      items[j] = held;
    }
    return items;
  }
}

/** A position drawn in proportion to its weight; -1 where all weights are 0. */
export function drawFrom(weight: (i: number) => number, n: number, random: Random): number {
  let total = 0;
  for (let i = 0; i < n; i++) total += weight(i);
  if (!(total > 0)) return -1;
  let mark = random.uniform() * total;
  let last = -1;
  for (let i = 0; i < n; i++) {
    const w = weight(i);
    if (!(w > 0)) continue;
    last = i;
    mark -= w;
    if (mark < 0) return i;
  }
  return last;
}
