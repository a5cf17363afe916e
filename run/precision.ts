/** @file The precision that a run trains in, and that its models teach in: refused where it cannot be had, before any work. */
import { InputError } from '../common/errors.ts';
import type { Options } from '../config/options.ts';
import { sumHalvesInFloat32 } from '../engine/runtime/cuda.ts';
import { computeOn } from '../engine/runtime/provider.ts';
import { checkDType } from '../teachers/compact.ts';

/**
 * Prepares the process for half precision, before a model that multiplies in it is open.
 * @throws InputError where half precision is asked for, by training or a model that teaches, and it does not compute on CUDA
 */
export async function preparePrecision({
  train,
  teacher,
  embedder,
}: Options<'train.precision' | 'train.provider' | 'train.threads' | 'teacher' | 'embedder'>): Promise<void> {
  for (const model of [teacher, embedder])
    if (model && 'dtype' in model && model.dtype === 'fp16')
      checkDType(model.dtype, await computeOn(train), model.model);
  if (train.precision === 'float32') return;
  sumHalvesInFloat32();
  const { provider } = await computeOn(train);
  if (provider === 'cuda') return;
  throw new InputError({
    code: 'train.precision',
    subject: `train.precision ${train.precision} is for cuda, and training computes on ${provider} here`,
    remedy: 'remove it, or set train.provider to cuda to hear why it is not available',
  });
}
