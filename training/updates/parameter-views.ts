/** @file Parameters as parts of the flat vector that holds them all. */
import type { Expr } from '../../engine/expressions/expr.ts';
import type { Value } from '../../engine/graph/ir.ts';
import { sizeOf } from '../../engine/graph/tensor.ts';
import { halves } from '../../engine/passes/to-half.ts';

/**
 * A vector consists of rows of this width, and a matrix begins with one: CUDA's Concat and Split build a table on the host with a
 * number for each row that they put together or take apart (124 ms a step where 22.6 million numbers were rows of one).
 */
export const ROW = 1024;

/** A parameter and its place in the vector. */
export interface PlacedParameter {
  /** Its input in the graph. */
  value: Value;
  dims: readonly number[];
  offset: number;
  /** Whether it follows the one before directly; otherwise it begins with a row. */
  short: boolean;
}

/**
 * Replaces the inputs of parameters by parts of a vector [length]. The parts are outputs of one Split: a Slice for each parameter
 * is a launch for each. Where casts of parameters read them, the vector is cast as a whole.
 *
 * @param parameters in the order of their places
 * @param most outputs of one Split
 */
export function readFromVector(
  vector: Expr,
  length: number,
  parameters: readonly PlacedParameter[],
  most: number,
): void {
  const { graph } = vector;
  for (const dtype of halves) {
    const castsOf = ({ value }: PlacedParameter) =>
      [...value.readers].filter((n) => n.op === 'Cast' && n.outputs[0].dtype === dtype);
    const casts = new Map(parameters.map((p) => [p, castsOf(p)]));
    const cast = parameters.filter((p) => casts.get(p)?.length);
    if (!cast.length) continue;
    for (const [p, part] of partsOf(vector.cast(dtype), length, cast, most))
      for (const node of casts.get(p) ?? []) graph.replace(node.outputs[0], part.value);
    graph.removeNodes(new Set([...casts.values()].flat()));
  }
  const read = parameters.filter((p) => p.value.readers.size);
  for (const [p, part] of partsOf(vector, length, read, most)) graph.replace(p.value, part.value);
  for (const p of parameters) graph.removeInput(p.value);
}

/** Part of an axis. */
interface Range {
  from: number;
  to: number;
}

/** Rows of the vector: those of one long parameter, or of neighbouring short ones. */
interface Piece extends Range {
  members: PlacedParameter[];
}

function partsOf(
  vector: Expr,
  length: number,
  wanted: readonly PlacedParameter[],
  most: number,
): Map<PlacedParameter, Expr> {
  const pieces: Piece[] = [];
  for (const p of wanted) {
    const [from, to] = [Math.floor(p.offset / ROW), Math.ceil((p.offset + sizeOf(p.dims)) / ROW)];
    const last = pieces.at(-1);
    if (p.short && last?.members[0].short && from <= last.to) {
      last.members.push(p);
      last.to = to;
    } else pieces.push({ from, to, members: [p] });
  }
  const rows = cut(vector.reshape(-1, ROW), length / ROW, pieces, most);
  return new Map(
    pieces.flatMap(({ from, to, members }, i): [PlacedParameter, Expr][] => {
      const [first] = members;
      if (first.short) {
        const places = members.map((p) => p.offset - from * ROW);
        const ranges = members.map(({ dims }, k) => ({ from: places[k], to: places[k] + sizeOf(dims) }));
        const parts = cut(rows[i].reshape(-1), (to - from) * ROW, ranges, most);
        return members.map((p, k) => [p, parts[k]]);
      }
      const size = sizeOf(first.dims);
      const own = size === (to - from) * ROW ? rows[i] : rows[i].reshape(-1).slice(0, size, 0);
      return [[first, own.reshape(...first.dims)]];
    }),
  );
}

/** Ranges of the first axis of a value [size, ..], in order; what lies between them is split off too, and read by nothing. */
function cut(x: Expr, size: number, ranges: readonly Range[], most: number): Expr[] {
  const sizes: number[] = [];
  const found: number[] = [];
  let at = 0;
  for (const { from, to } of ranges) {
    if (from > at) sizes.push(from - at);
    found.push(sizes.length);
    sizes.push(to - from);
    at = to;
  }
  if (size > at) sizes.push(size - at);
  const parts = split(x, sizes, most);
  return found.map((i) => parts[i]);
}

/** Parts of these sizes along the first axis; where they are more than one Split may have, in several steps. */
function split(x: Expr, sizes: readonly number[], most: number): Expr[] {
  if (sizes.length < 2) return [x];
  if (sizes.length > most) {
    const steps = Math.ceil(Math.log(sizes.length) / Math.log(most) - 1e-9);
    const width = most ** (steps - 1);
    const groups = Array.from({ length: Math.ceil(sizes.length / width) }, (_, i) =>
      sizes.slice(i * width, (i + 1) * width),
    );
    return split(
      x,
      groups.map((g) => g.reduce((a, b) => a + b)),
      most,
    ).flatMap((part, i) => split(part, groups[i], most));
  }
  return x.graph.opset < 13
    ? x.ops('Split', [], sizes.length, { axis: 0, split: [...sizes] })
    : x.ops('Split', [x.ints(...sizes)], sizes.length, { axis: 0 });
}
