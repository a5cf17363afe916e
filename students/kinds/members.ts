/** @file Every kind of student, a line each, by the name that configs use. */
export { fresh } from './fresh.ts';
export { model } from './model.ts';
export { multiVector } from './multi-vector.ts';
export { sparse } from './sparse.ts';
export { staticTable as static } from './static.ts';
