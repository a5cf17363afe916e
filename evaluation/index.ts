/** @file Metrics, comparison, diagnostics, search and reports, for programs. */
export { type AnnOptions, measureIndex } from './ann.ts';
export { type Bm25, type Bm25Options, bm25 } from './bm25.ts';
export * from './compare.ts';
export * from './diagnostics/index.ts';
export * from './evaluate.ts';
export * from './fidelity.ts';
export * from './metrics.ts';
export type * from './report/figures.ts';
export { renderHtml } from './report/html.ts';
export { renderMarkdown } from './report/markdown.ts';
export * from './run-file.ts';
export { type Hits, search } from './search.ts';
export * from './statistics.ts';
