/** @file Gradient rules of reductions and their helpers. */
import { constant, type Expr } from '../expressions/expr.ts';
import { type Context, type Gradients, unsupported } from './rule.ts';
import { positiveAxis } from './shapes.ts';

/** Axes of a reduction as positive numbers; all where none are given. */
function reducedAxes(c: Context): number[] {
  const rank = c.dims(c.x[0]).length;
  const axes = c.x[1] ? c.constant(1) : c.node.ints('axes');
  if (c.x[1] && !axes) throw unsupported(c, 'its axes are not constant');
  return (axes?.length ? [...axes] : Array.from({ length: rank }, (_, i) => i)).map((a) => positiveAxis(a, rank));
}

/** Broadcasts a reduced value back to the input's shape. */
export function spread(c: Context, reduced: Expr): Expr {
  const dims = c.dims(c.x[0]);
  const kept = c.node.int('keepdims', 1) ? reduced : reduced.unsqueeze(...reducedAxes(c).sort((a, b) => a - b));
  const target = dims.every((d) => typeof d === 'number')
    ? constant(reduced.graph, 'int64', [dims.length], dims as number[])
    : c.x[0].shape();
  return kept.expandTo(target);
}

/** Number of elements per mean. */
export function reducedCount(c: Context): Expr {
  const dims = c.dims(c.x[0]);
  const axes = reducedAxes(c);
  if (axes.every((a) => typeof dims[a] === 'number'))
    return c.dy.number(axes.reduce((n, a) => n * (dims[a] as number), 1));
  const sizes = c.x[0].shape().gather(constant(c.dy.graph, 'int64', [axes.length], axes));
  return sizes.op('ReduceProd', [], { keepdims: 0 }).float();
}

/** Tied extreme elements share dy evenly, as in PyTorch's amax and amin. */
export function reduceExtreme(c: Context): Gradients {
  const hit = c.x[0].equal(spread(c, c.y[0])).float();
  const axes = constant(c.dy.graph, 'int64', [reducedAxes(c).length], reducedAxes(c));
  const count = hit.op('ReduceSum', [axes], { keepdims: 1 });
  return [hit.div(count).mul(spread(c, c.dy)), null];
}

/** The product of the other elements, computed without division so that zeros are handled. */
export function reduceProd(c: Context): Gradients {
  const [x] = c.x;
  const rank = c.dims(x).length;
  const axes = reducedAxes(c);
  if (axes.length !== 1) throw unsupported(c, 'more than one axis has no rule');
  const last = axes[0] === rank - 1;
  const swap = Array.from({ length: rank }, (_, i) => (i === axes[0] ? rank - 1 : i === rank - 1 ? axes[0] : i));
  const moved = last ? x : x.transpose(...swap);
  // others[i][j] is x_j, or 1 where j = i
  const size = moved
    .shape()
    .gather(x.ints(rank - 1))
    .squeeze(0);
  const places = constant(x.graph, 'int64', [], [0]).op('Range', [size, constant(x.graph, 'int64', [], [1])]);
  const own = places.unsqueeze(1).equal(places.unsqueeze(0));
  const others = own.where(1, moved.unsqueeze(-2)).op('ReduceProd', [x.ints(-1)], { keepdims: 0 });
  return [spread(c, c.dy).mul(last ? others : others.transpose(...swap)), null];
}
