/** @file Where training computes: on the host, or on a device that is there and faster. */
import { fastestProvider } from '../../engine/runtime/resident.ts';
import type { AdamWOptions } from '../../training/adamw.ts';
import { DeviceLearner } from '../../training/device-learner.ts';
import { HostLearner, type Learner } from '../../training/learner.ts';
import { StepGraph, type StepGraphOptions } from '../../training/step-graph.ts';
import type { Job } from './job.ts';

/** @throws InputError where the provider that the config names is not to be had */
export async function openLearner(
  { config, note }: Job,
  options: Omit<StepGraphOptions, 'session'>,
  adamw: AdamWOptions,
): Promise<Learner> {
  const { provider: wanted, threads } = config.train;
  const provider = wanted === 'auto' ? await fastestProvider() : wanted;
  if (wanted === 'auto' && provider !== 'cpu')
    note(`training on ${provider}, which multiplies faster here than the processor`);
  if (provider === 'cpu') return new HostLearner(await StepGraph.create({ ...options, session: { threads } }), adamw);
  return DeviceLearner.create({ ...options, session: { provider } }, adamw);
}
