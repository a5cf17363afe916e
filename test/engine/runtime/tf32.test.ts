import { expect, test } from 'vitest';
import type { Tensor } from '../../../engine/graph/tensor.ts';
import { roundsFactors, roundsToTf32 } from '../../../engine/runtime/tf32.ts';

/** The nearest number of so many bits behind the point. */
const rounded = (bits: number) => (x: number) => {
  const unit = 2 ** (Math.floor(Math.log2(Math.abs(x) || 1)) - bits);
  return Math.round(x / unit) * unit;
};
/** A product with a diagonal matrix. */
const by =
  (round: (x: number) => number) =>
  async (a: Tensor, b: Tensor): Promise<Tensor> => {
    const [, n] = a.dims;
    const data = Float32Array.from(
      a.data as Float32Array,
      (x, i) => round(x) * round(Number(b.data[(i % n) * (n + 1)])),
    );
    return { dtype: 'float32', dims: a.dims, data };
  };

test('a product that rounds its factors to 10 bits is told from one of 23 bits', async () => {
  expect(await roundsFactors(by(rounded(10)))).toBe(true);
  expect(await roundsFactors(by(rounded(23)))).toBe(false);
});

test('the processor does not', async () => {
  expect(await roundsToTf32({})).toBe(false);
});
