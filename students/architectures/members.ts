/** @file Every architecture, a line each, by the name that configs use. */
export { experts } from './experts.ts';
export { favor } from './favor.ts';
export { scaleInvariant as 'scale-invariant' } from './scale-invariant.ts';
export { relu, topK as 'top-k' } from './sparse.ts';
export { tree } from './tree.ts';
