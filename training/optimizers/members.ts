/** @file Every optimizer, a line each, by the name that configs use. */
export { adamW as adamw } from './adamw.ts';
export { clippedSGD as 'clipped-sgd' } from './clipped-sgd.ts';
export { lion } from './lion.ts';
export { locoPropM as 'locoprop-m', locoPropS as 'locoprop-s' } from './loco-prop.ts';
export { muon } from './muon.ts';
export { scheduleFree as 'schedule-free' } from './schedule-free.ts';
export { sgd } from './sgd.ts';
