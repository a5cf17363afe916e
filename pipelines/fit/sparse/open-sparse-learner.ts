/** @file The learner of a sparse student: on the host, or on a device that is there. */
import type { Options } from '../../../config/options.ts';
import { computeOn } from '../../../engine/runtime/provider.ts';
import type { Student } from '../../../students/student.ts';
import { DeviceLearner } from '../../../training/device-learner.ts';
import { HostLearner, type Learner } from '../../../training/host-learner.ts';
import type { OptimizerOptions } from '../../../training/optimizers/index.ts';
import { type SparseStepOptions, sparseStep } from '../../../training/sparse/sparse-step.ts';
import { singleRun } from '../../../training/step/single-run.ts';

/** @throws InputError where the student is not sparse, a loss does not fit, or the provider is not available */
export async function openSparseLearner(
  { train }: Options<'train'>,
  { graph, sparse, positions }: Student,
  options: Omit<SparseStepOptions, 'model' | 'columns' | 'session' | 'positions' | 'groups'>,
  optimizer: OptimizerOptions,
): Promise<Learner> {
  if (!sparse) throw new Error('the student is not sparse');
  const session = await computeOn(train);
  const step = await sparseStep({
    ...options,
    model: { graph, ...sparse },
    columns: sparse.columns,
    groups: train.groups,
    positions,
    session,
  });
  if (session.provider === 'cpu') return new HostLearner(await singleRun(step, session), optimizer, session);
  return DeviceLearner.create(step, session, optimizer, { accumulates: train.accumulate > 1 });
}
