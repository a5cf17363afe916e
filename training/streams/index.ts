/** @file The registry of replay methods. */
import * as members from './members.ts';
import type { StreamMethod } from './stream.ts';

/** All replay methods, by the names that configs use. */
export const streamMethods = { ...members } satisfies Record<string, StreamMethod>;

export type StreamMethodName = keyof typeof streamMethods;

export { Stream, type StreamOptions } from './passes.ts';
export type { StreamMethod, StreamPart, StreamSettings } from './stream.ts';
