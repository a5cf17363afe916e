/** @file Gradient rules of operators that reshape, join and slice tensors. */
import { constant, Expr } from '../expressions/expr.ts';
import type { Value } from '../graph/ir.ts';
import { type Context, constantInt, type Gradients, inverse, last, sizeAt, unsupported } from './rule.ts';
import { positiveAxis, reshapeLike } from './shapes.ts';

/** Each input gets its slice of dy. */
export function concat(c: Context): Gradients {
  const axis = positiveAxis(c.node.int('axis', 0), c.dims(c.y[0]).length);
  const sizes = c.x.map((x) => c.dims(x)[axis]);
  const split = sizes.every((s) => typeof s === 'number')
    ? constant(c.dy.graph, 'int64', [sizes.length], sizes as number[])
    : sizeAt(c.x[0], c.dims(c.x[0]), axis).concat(
        c.x.slice(1).map((x) => sizeAt(x, c.dims(x), axis)),
        0,
      );
  return c.dy.ops('Split', [split], c.x.length, { axis });
}

/** Outputs without readers have zero gradient. */
export function split(c: Context): Gradients {
  const parts = c.dys.map((d, i) => d ?? c.y[i].mul(0));
  return [parts[0].concat(parts.slice(1), c.node.int('axis', 0)), null];
}

/** Reshapes dy to the input's shape, for Reshape, Flatten, Squeeze and Unsqueeze. */
export const reshapeBack = (c: Context): Expr => reshapeLike(c.dy, c.dims(c.y[0]), c.dims(c.x[0]), c.x[0]);

/** Pads the slice with zeros, axis by axis; its start and end come from the same slice of 0, 1, 2, ... */
export function slice(c: Context): Gradients {
  const { dy, x: [x, starts, ends] } = c; // biome-ignore format: one line reads better
  const dims = c.dims(x);
  const axes = c.x[3] ? c.constant(3) : Array.from({ length: last(c.dims(starts)) }, (_, i) => i);
  if (!axes) throw unsupported(c, 'its axes are not constant');
  const steps = c.x[4] ? c.constant(4) : axes.map(() => 1);
  if (!steps) throw unsupported(c, 'its steps are not constant');
  const at = (e: Expr, i: number): Expr => (axes.length === 1 ? e : e.gather(dy.ints(i)));
  let out = dy;
  axes.forEach((given, i) => {
    const axis = positiveAxis(given, dims.length);
    const size = sizeAt(x, dims, axis);
    const places = constantInt(dy, 0).op('Range', [size.squeeze(0), constantInt(dy, 1)]);
    if (steps[i] === 1) {
      // Computed, not read from the slice, which may be empty.
      const before = places.op('Slice', [dy.ints(0), at(starts, i), dy.ints(0)]).shape();
      const after = size.sub(before).sub(out.shape().gather(dy.ints(axis)));
      // Pads of all axes: moving a Transpose over a Pad that names its axes, ONNX Runtime 1.30 forgets them.
      const rest = Array.from({ length: dims.length - 1 }, () => 0);
      const pads = [rest.slice(0, axis), before, rest, after, rest.slice(axis)];
      out = out.op('Pad', [joined(dy, pads)]);
    } else {
      const picked = places.op('Slice', [at(starts, i), at(ends, i), dy.ints(0), dy.ints(steps[i])]);
      out = placed(out, picked, size, axis, dims.length);
    }
  });
  return [out, ...c.x.slice(1).map(() => null)];
}

/** Concatenates numbers and int64 vectors. */
function joined(e: Expr, parts: readonly (Expr | number[])[]): Expr {
  const [first, ...others] = parts.flatMap((p) => (Array.isArray(p) ? (p.length ? [e.ints(...p)] : []) : [p]));
  return first.concat(others, 0);
}

/** Scatters the slices of `e` along an axis to the given positions of an axis of `size` zeros. */
function placed(e: Expr, places: Expr, size: Expr, axis: number, rank: number): Expr {
  const front = [axis, ...Array.from({ length: rank }, (_, d) => d).filter((d) => d !== axis)];
  const moved = axis === 0 ? e : e.transpose(...front);
  const rest = front.slice(1).map((_, d) => d + 1);
  const shape = rank === 1 ? size : size.concat([moved.shape().gather(e.ints(...rest))], 0);
  const filled = e
    .number(0)
    .expandTo(shape)
    .op('ScatterND', [places.unsqueeze(-1), moved], { reduction: 'add' });
  return axis === 0 ? filled : filled.transpose(...inverse(front));
}

/** The middle of dy, by Pad with the negated pads. */
export function pad(c: Context): Gradients {
  if (c.node.string('mode', 'constant') !== 'constant') throw unsupported(c, 'only constant padding has a rule');
  const [, pads, , axes] = c.x;
  return [c.dy.op('Pad', [pads.neg(), null, axes ?? null]), ...c.x.slice(1).map(() => null)];
}

/** Repeats are summed: dims [r0, d0, r1, d1, ...]. */
export function tile({ dy, x: [x, repeats], dims }: Context): Gradients {
  const folded = repeats
    .unsqueeze(1)
    .concat([x.shape().unsqueeze(1)], 1)
    .reshape(-1);
  return [dy.reshapeTo(folded).sum(dims(x).map((_, i) => 2 * i)), null];
}

/** The inverse permutation; by default the axes are reversed. A gradient that was permuted in the same way is taken as it was. */
export function transpose({ dy, node, dims, x: [x] }: Context): Gradients {
  const perm = node.ints('perm') ?? dims(x).map((_, i, d) => d.length - 1 - i);
  const before = dy.value.producer;
  if (before?.op === 'Transpose' && String(before.ints('perm')) === String(perm))
    return [new Expr(dy.graph, before.inputs[0] as Value)];
  return [dy.transpose(...inverse(perm))];
}
