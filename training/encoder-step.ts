/** @file The training step of an encoder for a device: few groups, padded to few shapes. */

import type { StepBatch } from './batches/batches.ts';
import { dropoutTable } from './step/dropout.ts';
import { packStep, type StepGraphOptions } from './step/dual-encoder-step.ts';
import { encoderGraph } from './step/encoder-graph.ts';
import { lossGraph } from './step/loss-graph.ts';
import { assemble, groupFeeds } from './step/single-run.ts';
import type { DifferentiatedStep } from './step/training-step.ts';

/** Each group is a few hundred dispatches more; a device pads cheaper than it is told what to do. */
const DEVICE_GROUPS = 2;

/**
 * @param options `session.provider` says how texts are packed; GradCache is not to be had here
 * @throws InputError where an operator has no gradient rule or the encoder has inputs that are not known
 */
export async function encoderStep(options: StepGraphOptions): Promise<DifferentiatedStep<StepBatch>> {
  const { encoder: _, ...rest } = { ...options, groups: options.groups ?? DEVICE_GROUPS };
  const encoder = await encoderGraph(options);
  const losses = await lossGraph(options, encoder.width, encoder.graph.opset);
  const start = new Map(encoder.weights.map((w) => [w.name, w.tensor]));
  if (losses.projection) start.set('projection', losses.projection.tensor);
  const table = rest.dropout ? dropoutTable(rest.dropout, rest.seed ?? 0) : undefined;
  return {
    ...assemble(encoder, losses, rest.groups),
    start,
    feeds(batch, step) {
      const packed = packStep(batch, rest, table, encoder.dropout?.sites ?? 0, step);
      return { ...packed.losses, ...groupFeeds(packed) };
    },
  };
}
