/** @file The registry of replay methods. */
import { inOrder } from './in-order.ts';
import { introspective } from './introspective.ts';
import { reverse } from './reverse.ts';
import { shuffle } from './shuffle.ts';
import type { StreamMethod } from './stream.ts';

/** All replay methods, by the names that configs use. */
export const streamMethods = {
  'in-order': inOrder,
  introspective,
  reverse,
  shuffle,
} as const satisfies Record<string, StreamMethod>;

export type StreamMethodName = keyof typeof streamMethods;

export { Stream } from './passes.ts';
export type { StreamPart } from './stream.ts';
