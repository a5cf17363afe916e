/** @file Whether products of float32 matrices round their factors to TF32, where that was not asked for. */
import { Expr } from '../expressions/expr.ts';
import { Graph } from '../graph/ir.ts';
import type { Tensor } from '../graph/tensor.ts';
import { Session, type SessionOptions } from './session.ts';

/** As large as products are for which the tensor cores are taken. */
const SIDE = 512;
/** TF32 has 10 bits behind the point: it rounds this to 1. */
const FACTOR = 1 + 2 ** -12;

/**
 * Whether a product rounds its factors: a matrix of one number times the identity is that number.
 * @param product of two matrices [n, n]
 */
export async function roundsFactors(product: (a: Tensor, b: Tensor) => Promise<Tensor>): Promise<boolean> {
  const square = (at: (i: number) => number): Tensor => ({
    dtype: 'float32',
    dims: [SIDE, SIDE],
    data: Float32Array.from({ length: SIDE * SIDE }, (_, i) => at(i)),
  });
  const { data } = await product(
    square(() => FACTOR),
    square((i) => Number(i % (SIDE + 1) === 0)),
  );
  return (data as Float32Array).some((v) => v !== FACTOR);
}

/**
 * Whether ONNX Runtime's products round their factors on a provider. NVIDIA's libraries read once whether they may, and in one run on
 * an H200 `allowTf32` had no effect.
 */
export async function roundsToTf32(where: SessionOptions): Promise<boolean> {
  const graph = new Graph(17);
  const [a, b] = ['a', 'b'].map((name) => new Expr(graph, graph.input(name, 'float32', ['m', 'n'])));
  graph.output(a.matmul(b).value, 'product');
  const session = await Session.load(graph, where);
  try {
    return await roundsFactors(async (a, b) => (await session.run({ a, b })).product);
  } finally {
    await session.release();
  }
}
