/**
 * @file Dynamic loss scaling for float16, whose smallest number is 6e-8: the loss is multiplied by a power of two before the backward
 * pass, and the gradients of weights are divided by it in float32.
 *
 * @source Micikevicius et al. 2018, arXiv 1710.03740; the numbers of torch.amp.GradScaler
 */
import type { Numbers } from './optimizers/optimizer.ts';

const FIRST = 2 ** 16;
/** Steps without overflow after which the factor doubles. */
export const GROWS_AFTER = 2000;
/** With a smaller factor many gradients round to 0. */
const SMALL = 2 ** 7;
const LARGEST = 2 ** 24;

export const lossScaleOf = ({ lossScale = FIRST }: Numbers): number => lossScale;

/** The numbers after a step whose gradients were finite. */
export function afterFinite(numbers: Numbers): Numbers {
  const { lossScaleSteps = 0 } = numbers;
  const lossScale = lossScaleOf(numbers);
  if (lossScaleSteps + 1 < GROWS_AFTER) return { ...numbers, lossScale, lossScaleSteps: lossScaleSteps + 1 };
  return { ...numbers, lossScale: Math.min(LARGEST, 2 * lossScale), lossScaleSteps: 0 };
}

/** The numbers with which a step that overflowed is repeated; undefined where the factor is 1, so that it is no matter of scale. */
export function afterOverflow(numbers: Numbers): Numbers | undefined {
  const lossScale = lossScaleOf(numbers) / 2;
  return lossScale < 1 ? undefined : { ...numbers, lossScale, lossScaleSteps: 0 };
}

/** What progress says where a factor has become small. */
export const smallScale = (numbers: Numbers): string | undefined =>
  lossScaleOf(numbers) === SMALL / 2
    ? `gradients overflow in float16, the loss is scaled by ${lossScaleOf(numbers)} only: small gradients are lost; train.precision bfloat16 has the range of float32`
    : undefined;
