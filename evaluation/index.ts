/** @file Metrics, comparison and search, for programs. */
export * from './compare.ts';
export * from './evaluate.ts';
export * from './fidelity.ts';
export * from './metrics.ts';
export * from './run-file.ts';
export { type Hits, search } from './search.ts';
export * from './statistics.ts';
