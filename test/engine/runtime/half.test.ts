/** @file Half floats go to ONNX Runtime and come back as bits, whether Node has Float16Array (24 and later) or not. */
import { afterAll, expect, test, vi } from 'vitest';
import { Graph } from '../../../engine/graph/ir.ts';
import { floatsOf, type Tensor } from '../../../engine/graph/tensor.ts';

/** An array of another class than those of Node 20 over the same bytes, as Float16Array is for the binding. */
class Halves {
  readonly buffer: ArrayBufferLike;
  readonly byteOffset: number;
  readonly length: number;
  constructor(buffer: ArrayBufferLike, byteOffset: number, length: number) {
    [this.buffer, this.byteOffset, this.length] = [buffer, byteOffset, length];
  }
  static from(): never {
    throw new Error('nothing is made of numbers here');
  }
}
const has = 'Float16Array' in globalThis;
if (!has) vi.stubGlobal('Float16Array', Halves);
afterAll(() => vi.unstubAllGlobals());

test('a sum of halves: inputs, outputs and what the library gives on Node 24', async () => {
  const { fromOrt, Session, toOrt } = await import('../../../engine/runtime/session.ts');
  const bits = Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001).subarray(1);
  const given: Tensor = { dtype: 'float16', dims: [1, 3], data: bits };
  const tensor = toOrt(given);
  expect([tensor.type, tensor.dims, tensor.data]).toEqual(['float16', [1, 3], bits]);

  const graph = new Graph(17);
  const x = graph.input('x', 'float16', [1, 3]);
  const y = graph.add('Mul', [x, graph.constant({ dtype: 'float16', dims: [1], data: Uint16Array.of(0x3800) })]);
  [y.dtype, y.dims] = ['float16', [1, 3]];
  graph.output(y, 'y');
  const session = await Session.load(graph);
  const { y: found } = await session.run({ x: given });
  await session.release();
  expect(found.data).toBeInstanceOf(Uint16Array);
  expect([...floatsOf(found)]).toEqual([-1, 32752, 0]);

  const Half = (globalThis as unknown as { Float16Array: typeof Halves }).Float16Array;
  const own = { type: 'float16', dims: [3], data: new Half(bits.buffer, bits.byteOffset, 3) };
  expect(fromOrt(own as never)).toEqual({ dtype: 'float16', dims: [3], data: bits });
});
