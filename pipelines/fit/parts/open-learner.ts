/** @file Where training computes: on the host, or on a device that is there and faster. */
import type { Options } from '../../../config/options.ts';
import { computeOn } from '../../../engine/runtime/provider.ts';
import { DeviceLearner } from '../../../training/device-learner.ts';
import { HostLearner, type Learner } from '../../../training/host-learner.ts';
import { type OptimizerOptions, optimizers } from '../../../training/optimizers/index.ts';

import {
  type DualEncoderStepOptions,
  dualEncoderOnHost,
  dualEncoderStep,
} from '../../../training/step/dual-encoder-step.ts';
import type { Fit } from './fit.ts';

/**
 * @param chunk texts encoded at a time where memory is short and the host computes
 * @throws InputError where the provider is not available
 */
export async function openLearner(
  { options: { train }, note }: Pick<Fit, 'note'> & { options: Options<'train'> },
  options: Omit<DualEncoderStepOptions, 'session'>,
  optimizer: OptimizerOptions,
  chunk?: number,
): Promise<Learner> {
  const { provider: wanted, threads, accumulate, precision } = train;
  // GradCache needs the gradients themselves, which a device keeps to itself.
  const session = options.gradCacheChunk ? { provider: 'cpu' as const, threads } : await computeOn(train);
  if (wanted === 'auto' && session.provider !== 'cpu')
    note(`training on ${session.provider}, which multiplies faster here than the processor`);
  const step = { ...options, precision, products: optimizers[optimizer.optimizer ?? 'adamw']().readsProducts };
  if (session.provider === 'cpu') {
    const gradCacheChunk = options.gradCacheChunk ?? chunk;
    return new HostLearner(await dualEncoderOnHost({ ...step, gradCacheChunk, session }), optimizer, session);
  }
  const accumulates = accumulate > 1;
  return DeviceLearner.create(await dualEncoderStep({ ...step, session }), session, optimizer, { accumulates });
}
