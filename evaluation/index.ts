/** @file Metrics, comparison and search, for programs. */
export { type Bm25, type Bm25Options, bm25 } from './bm25.ts';
export * from './compare.ts';
export * from './evaluate.ts';
export * from './fidelity.ts';
export * from './metrics.ts';
export * from './run-file.ts';
export { type Hits, search } from './search.ts';
export * from './statistics.ts';
