/** @file Every replay method, a line each, by the name that configs use. */
export { inOrder as 'in-order' } from './in-order.ts';
export { introspective } from './introspective.ts';
export { reverse } from './reverse.ts';
export { shuffle } from './shuffle.ts';
