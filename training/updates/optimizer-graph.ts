/** @file An optimizer as part of the training graph: weights and state are inputs and outputs, and stay on the device. */

import type { Gradient } from '../../engine/autodiff/differentiate.ts';
import { constant, Expr } from '../../engine/expressions/expr.ts';
import { afterPass } from '../../engine/graph/checker.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import { sizeOf } from '../../engine/graph/tensor.ts';
import { joinColumns } from '../../engine/passes/join-columns.ts';
import { roundUp } from '../../math/numbers.ts';
import {
  decays,
  type Optimizer,
  type OptimizerSettings,
  type ParameterShape,
  type RuleInputs,
} from '../optimizers/optimizer.ts';
import { filled, flatGradient, joined, type RowInputs, roomOfRows, spread, zeros } from './flat-vectors.ts';
import { ROW, readFromVector } from './parameter-views.ts';

/** A parameter's slice of the flat vectors. */
export interface Slice {
  name: string;
  dims: readonly number[];
  /** Position in the vector of weights. */
  offset: number;
}

/** A flat vector [length] of the state: weights from..from + length have such an array. */
export interface StateVector {
  /** The rule's name for it. */
  name: string;
  input: string;
  from: number;
  length: number;
  start: 'zeros' | 'weights';
}

/** The flat vectors and the other inputs and outputs of a step. */
export interface GraphOptimizer {
  /** Length of the vector of weights. */
  length: number;
  slices: readonly Slice[];
  state: readonly StateVector[];
  /** Input to output of weights and state. */
  carried: ReadonlyMap<string, string>;
  /** Names of the step's numbers, in the order of the input FACTORS. */
  factors: readonly string[];
  /** Output: the gradients' global norm before clipping. */
  norm: string;
  /** For tables whose rows are a group's token ids: that input, and the inputs of the ids' chunks (see rowChunks). */
  tables: readonly RowInputs[];
}

/** A parameter with its input in the graph. */
export interface GraphParameter extends ParameterShape {
  value: Value;
  /** Values of its products, where the step gives them. */
  multiplied?: { x: Value; before?: Value };
}

export const WEIGHTS = 'optimizer.weights';
/**
 * [factors] numbers of the step: those of the rule, then `keep` and `decay` (see RuleInputs); where several batches make one
 * step, `carry` (0 for the first of them, else 1), `share` (1 over their number) and `apply` (1 for the last, else 0). Where the loss is
 * scaled, `share` also undoes that.
 */
export const FACTORS = 'optimizer.factors';
/** [length] the sum of the gradients so far, where several batches make one step. */
export const SUM = 'optimizer.sum';
/** [1], carried: 1 until a norm is not finite, then 0, with which no run changes anything. */
export const GOING = 'optimizer.going';

/** Width of the table for sums of squares: a single long sum would run on one core of a GPU. */
const WIDTH = 1024;
/** Biases and the like up to this length are put together first, as they are: some 60 fewer operators to fill them up one by one. */
const SHORT = 4096;

/** What an update must allow for. */
export interface UpdateForm {
  /** Several batches may make one step. */
  accumulates?: boolean;
  /** Gradients come multiplied by the loss scale. */
  scaled?: boolean;
  /** Runs are made before the norms of earlier ones are known. */
  stops?: boolean;
  /** Outputs that one Split may have; any number by default. */
  mostParts?: number;
}

/** Parameters updated as one vector, or a single parameter in its own shape. */
interface Block {
  members: readonly GraphParameter[];
  shape: ParameterShape;
  from: number;
  length: number;
  /** Number of leading weights of the block that decay. */
  decayed: number;
}

/**
 * Appends an optimizer's update to a graph that computes gradients. All parameters become views of one vector; those whose rule
 * is elementwise are updated as one, so that AdamW takes two dozen operators for any number of parameters. If the norm is
 * non-finite, nothing changes.
 */
export function appendOptimizer(
  graph: Graph,
  rule: Optimizer,
  parameters: readonly GraphParameter[],
  gradients: ReadonlyMap<string, Gradient>,
  settings: OptimizerSettings = {},
  { accumulates = false, scaled = false, stops = false, mostParts = Number.POSITIVE_INFINITY }: UpdateForm = {},
): GraphOptimizer {
  const roomOf = (p: ParameterShape): number => {
    const gradient = gradients.get(p.name);
    return gradient && 'rows' in gradient ? roomOfRows(p.dims) : roundUp(sizeOf(p.dims), ROW);
  };
  const { blocks, slices, used, length } = layOut(rule, parameters, settings, roomOf);
  const ordered = blocks.flatMap((b) => b.members);
  const weights = new Expr(graph, graph.input(WEIGHTS, 'float32', [length]));
  const places = slices.map((own, i) => ({
    ...own,
    value: ordered[i].value,
    short: isShort(ordered[i], rule, settings),
  }));
  const parts: Expr[] = [];
  const short: Expr[] = [];
  const tables: RowInputs[] = [];
  for (const place of places) {
    const gradient = gradients.get(place.name);
    const flat = flatGradient(graph, gradient, place.dims, tables);
    if (place.short) short.push(flat);
    else parts.push(gradient && 'rows' in gradient ? flat : filled(flat, sizeOf(place.dims)));
  }
  readFromVector(weights, length, places, mostParts);
  if (short.length) {
    const widths = places.filter((p) => p.short).map((p) => sizeOf(p.dims));
    parts.push(
      filled(
        joinColumns(short, widths),
        widths.reduce((n, w) => n + w),
      ),
    );
  }
  if (length > used) parts.push(zeros(graph, length - used));
  const own = Object.keys(rule.factors(1, 1, {}));
  const names = [
    ...own,
    'keep',
    'decay',
    ...(accumulates || scaled ? ['share'] : []),
    ...(accumulates ? ['carry', 'apply'] : []),
  ];
  const given = new Expr(graph, graph.input(FACTORS, 'float32', [names.length]));
  const factor = (name: string): Expr => given.slice(names.indexOf(name), names.indexOf(name) + 1, 0);
  const sum = accumulates ? new Expr(graph, graph.input(SUM, 'float32', [length])) : undefined;
  // A sum that is not finite stays so to the end of its step, and no longer.
  const found = accumulates || scaled ? joined(parts).mul(factor('share')) : joined(parts);
  const raw = sum ? factor('carry').greater(0.5).where(sum, 0).add(found) : found;
  const norm = normOf(raw);
  // Infinity and NaN times 0 are NaN, which is not equal to itself.
  const finite = norm.mul(0).equal(0);
  const going = stops ? finite.where(new Expr(graph, graph.input(GOING, 'float32', [1])), 0) : undefined;
  const goes = going ? going.greater(0.5) : finite;
  const moves = accumulates ? goes.op('And', [factor('apply').greater(0.5)]) : goes;
  const { clipNorm } = settings;
  const scale = clipNorm === undefined ? undefined : norm.add(1e-6).reciprocal().mul(clipNorm).min(1);
  const gradient = scale ? raw.mul(scale) : raw;
  const norms = rule.readsNorms ? { weights: normOf(weights), gradient: scale ? norm.mul(scale) : norm } : undefined;

  const factors = Object.fromEntries(own.map((name) => [name, factor(name)]));
  const state = stateVectors(rule, blocks);
  const stateIn = new Map(state.map((v) => [v.name, new Expr(graph, graph.input(v.input, 'float32', [v.length]))]));

  const moved: Expr[] = [];
  const stateOut = new Map<string, Expr[]>(state.map((v) => [v.name, []]));
  for (const { members, shape, from, length: room, decayed } of blocks) {
    const whole = !rule.elementwise(shape);
    const size = whole ? sizeOf(shape.dims) : room;
    const of = (vector: Expr, offset: number, all: number): Expr => {
      const part = size === all ? vector : vector.slice(from - offset, from - offset + size, 0);
      return whole ? part.reshape(...shape.dims) : part;
    };
    const mixed = (name: string, otherwise: number): Expr => {
      const rest = constant(graph, 'float32', [1], [otherwise]);
      if (whole || decayed === size) return decayed ? factor(name) : rest;
      return decayed ? joined([spread(factor(name), decayed), spread(rest, size - decayed)]) : rest;
    };
    const next = rule.update(shape, {
      weights: of(weights, 0, length),
      gradient: of(gradient, 0, length),
      state: Object.fromEntries(
        state
          .filter((v) => v.name in rule.state(shape))
          .map((v) => [v.name, of(stateIn.get(v.name) as Expr, v.from, v.length)]),
      ),
      factors,
      keep: mixed('keep', 1),
      decay: mixed('decay', 0),
      norms,
      product: whole ? multipliedOf(graph, members[0]) : undefined,
    });
    const flat = (e: Expr): Expr => (whole ? filled(e.reshape(-1), size, room) : e);
    moved.push(flat(next.weights));
    for (const [name, e] of Object.entries(next.state)) stateOut.get(name)?.push(flat(e));
  }
  // If no parameter is updated elementwise, no block contains the padding.
  const covered = blocks.reduce((n, b) => n + b.length, 0);
  if (length > covered) moved.push(zeros(graph, length - covered));
  const out = (e: Expr, name: string): string => {
    graph.output(e.value, name);
    return e.value.name;
  };
  const carried = new Map([[WEIGHTS, out(moves.where(joined(moved), weights), `${WEIGHTS}.next`)]]);
  for (const v of state) {
    const before = stateIn.get(v.name) as Expr;
    carried.set(v.input, out(moves.where(joined(stateOut.get(v.name) ?? []), before), `${v.input}.next`));
  }
  if (sum) carried.set(SUM, out(raw, `${SUM}.next`));
  if (going) carried.set(GOING, out(going.reshape(1), `${GOING}.next`));
  const result = { length, slices, state, carried, factors: names, norm: out(norm, 'optimizer.norm'), tables };
  graph.dropUnusedInputs(given.value);
  graph.prune();
  graph.sort();
  afterPass(graph);
  return result;
}

const multipliedOf = (graph: Graph, { multiplied }: GraphParameter): RuleInputs['product'] =>
  multiplied && {
    x: new Expr(graph, multiplied.x),
    ...(multiplied.before && { before: new Expr(graph, multiplied.before) }),
  };

/** A vector that does not decay, and is updated with others of its kind. */
const isShort = (p: ParameterShape, rule: Optimizer, settings: OptimizerSettings): boolean =>
  p.dims.length === 1 && p.dims[0] <= SHORT && !decays(p, settings) && rule.elementwise(p);

/**
 * Order: matrices with a rule that is not elementwise; then parameters that decay, those that do not, short vectors one directly
 * after the other, and padding.
 */
function layOut(
  rule: Optimizer,
  parameters: readonly GraphParameter[],
  settings: OptimizerSettings,
  roomOf: (p: ParameterShape) => number,
): { blocks: Block[]; slices: Slice[]; used: number; length: number } {
  const blocks: Block[] = [];
  const slices: Slice[] = [];
  let at = 0;
  const place = (members: readonly GraphParameter[]): void => {
    const [from, shape] = [at, members[0]];
    let decayed = 0;
    for (const p of members) {
      slices.push({ name: p.name, dims: p.dims, offset: at });
      at += isShort(p, rule, settings) ? sizeOf(p.dims) : roomOf(p);
      if (decays(p, settings)) decayed = at - from;
    }
    at = roundUp(at, ROW);
    blocks.push({ members, shape, from, length: at - from, decayed });
  };
  for (const p of parameters) if (!rule.elementwise(p)) place([p]);
  const rest = parameters.filter((p) => rule.elementwise(p));
  const rank = (p: ParameterShape): number => (decays(p, settings) ? 0 : isShort(p, rule, settings) ? 2 : 1);
  const ordered = rest.sort((a, b) => rank(a) - rank(b));
  if (ordered.length) place(ordered);
  // Something is always left over. Slices that cover the whole vector are fused into one Split, for which CUDA builds a table on
  // the host with a number for each element (60 ms a Split of 15 million weights).
  const length = roundUp(at + 1, WIDTH);
  if (ordered.length) blocks[blocks.length - 1].length += length - at;
  return { blocks, slices, used: at, length };
}

/** For each state array a vector over the blocks that have it, which are contiguous. */
function stateVectors(rule: Optimizer, blocks: readonly Block[]): StateVector[] {
  const found = new Map<string, StateVector>();
  for (const { shape, from, length } of blocks)
    for (const [name, start] of Object.entries(rule.state(shape))) {
      const own = found.get(name);
      if (!own) found.set(name, { name, input: `optimizer.${name}`, from, length, start });
      else if (own.from + own.length === from) own.length += length;
      else throw new Error(`the weights with a '${name}' are not contiguous`);
    }
  return [...found.values()];
}

/** Norm of a whole vector, padding included, which is 0. */
const normOf = (vector: Expr): Expr => vector.reshape(-1, WIDTH).square().sum([1]).sum([0]).sqrt();
