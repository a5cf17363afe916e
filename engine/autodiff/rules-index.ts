/** @file Gradient rules of gather and scatter operators. */
import type { Expr } from '../expressions/expr.ts';
import { type Context, constantInt, type Gradients, inverse, sizeAt, unsupported, zeros } from './rule.ts';
import { overRows } from './rules-product.ts';
import { positiveAxis } from './shapes.ts';

/**
 * Rows gathered by index: their gradients are added to the source rows.
 * A single index along any axis is a product with a one-hot mask.
 */
export function gather(c: Context): Gradients {
  const { dy, x: [table, indices], node } = c; // biome-ignore format: one line reads better
  const dims = c.dims(table);
  const axis = positiveAxis(node.int('axis', 0), dims.length);
  const indexRank = c.dims(indices).length;
  const size = sizeAt(table, dims, axis);
  if (indexRank === 0) {
    const hot = oneHot(indices.unsqueeze(0), size).reshape(...dims.map((_, i) => (i === axis ? -1 : 1)));
    return [dy.unsqueeze(axis).mul(hot), null];
  }
  const rank = dims.length;
  const others = Array.from({ length: rank }, (_, i) => i).filter((i) => i !== axis);
  // [.., indices.., ..] -> [indices.., rest..] -> [n, rest], then added to the rows, and the axis moved back.
  const outRank = rank - 1 + indexRank;
  const front = [
    ...Array.from({ length: indexRank }, (_, i) => axis + i),
    ...Array.from({ length: outRank }, (_, i) => i).filter((i) => i < axis || i >= axis + indexRank),
  ];
  const moved = axis === 0 ? dy : dy.transpose(...front);
  const restDims = others.map((i) => dims[i]);
  const flatIndex = indices.reshape(-1);
  if (restDims.every((d) => typeof d === 'number')) {
    const width = restDims.reduce((n: number, d) => n * (d as number), 1);
    // rows: one-hot^T [size, n] x [n, width]; exact, and parallel where a scatter is not
    const [hot, count] = [oneHot(flatIndex, size), dims[axis]];
    const flat = moved.reshape(-1, width);
    const rows =
      c.forms === 'webgpu' && typeof count === 'number'
        ? overRows(c, hot, flat, { k: count, n: width, lead: [`all of ${c.dims(indices)}`] })
        : hot.op('Gemm', [flat], { transA: 1 });
    const shaped = rows.reshape(-1, ...(restDims as number[]));
    return [axis === 0 ? shaped : shaped.transpose(...inverse([axis, ...others])), null];
  }
  const permuted = axis === 0 ? zeros(table, dims) : zeros(table, dims).transpose(axis, ...others);
  const inner = others.map((_, i) => indexRank + i);
  const merged =
    indexRank === 1 ? moved : moved.reshapeTo(dy.ints(-1).concat([moved.shape().gather(dy.ints(...inner))], 0));
  const scattered = permuted.op('ScatterND', [flatIndex.unsqueeze(-1), merged], { reduction: 'add' });
  return [axis === 0 ? scattered : scattered.transpose(...inverse([axis, ...others])), null];
}

/** [n] indices -> [n, size] rows with a single 1; negative indices count from the end. By comparison: OneHot has no float64. */
function oneHot(indices: Expr, size: Expr): Expr {
  const places = constantInt(indices, 0).op('Range', [size.squeeze(0), constantInt(indices, 1)]);
  return indices.cast('int64').add(size).op('Mod', [size]).unsqueeze(-1).equal(places).float();
}

/** Gradients of elements (or slices) gathered by index tuples are scattered back; batch dimensions become part of the tuple. */
export function gatherND(c: Context): Gradients {
  const [x, indices] = c.x;
  const shape = indices.shape();
  const rank = c.dims(indices).length;
  const batch = c.node.int('batch_dims', 0);
  let places = indices;
  for (let axis = batch - 1; axis >= 0; axis--) {
    const count = constantInt(indices, 0).op('Range', [
      shape.gather(constantInt(indices, axis)),
      constantInt(indices, 1),
    ]);
    const along = count.reshape(...Array.from({ length: rank }, (_, i) => (i === axis ? -1 : 1)));
    const leading = shape.gather(indices.ints(...Array.from({ length: rank - 1 }, (_, i) => i)));
    places = along.expandTo(leading.concat([indices.ints(1)], 0)).concat([places], rank - 1);
  }
  return [zeros(x, c.dims(x)).op('ScatterND', [places, c.dy], { reduction: 'add' }), null];
}

/** Overwritten elements get gradient 0; updates get the gradient at their index. */
export function scatterND(c: Context): Gradients {
  const { dy, x: [, indices, updates] } = c; // biome-ignore format: one line reads better
  const own = dy.op('GatherND', [indices]);
  const reduction = c.node.string('reduction', 'none');
  if (reduction === 'add') return [dy, null, own];
  if (reduction !== 'none') throw unsupported(c, `reduction '${reduction}' has no rule`);
  return [dy.op('ScatterND', [indices, zeros(updates, c.dims(updates))]), null, own];
}

/** Like ScatterND, with one element per index. */
export function scatterElements(c: Context): Gradients {
  const { dy, x: [, indices, updates] } = c; // biome-ignore format: one line reads better
  const axis = c.node.int('axis', 0);
  const own = dy.gatherElements(indices, axis);
  const reduction = c.node.string('reduction', 'none');
  if (reduction === 'add') return [dy, null, own];
  if (reduction !== 'none') throw unsupported(c, `reduction '${reduction}' has no rule`);
  return [dy.op('ScatterElements', [indices, zeros(updates, c.dims(updates))], { axis }), null, own];
}
