/** @file Metrics, comparison, diagnostics, search and reports, for programs. */

export * from '../math/resampling.ts';
export { type AnnOptions, measureIndex } from '../retrieval/approximate-search.ts';
export { type Bm25, type Bm25Options, bm25 } from '../retrieval/bm25.ts';
export { type Hits, search } from '../retrieval/exact-search.ts';
export * from './diagnostics/index.ts';
export * from './metrics/compare.ts';
export * from './metrics/evaluate.ts';
export * from './metrics/fidelity.ts';
export * from './metrics/metrics.ts';
export * from './metrics/run-file.ts';
export type * from './report/figures.ts';
export { renderHtml } from './report/html.ts';
export { renderMarkdown } from './report/markdown.ts';
