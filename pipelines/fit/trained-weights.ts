/** @file A finished training in the output folder: its weights and its log, so that what comes after can be done again alone. */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson, writeWhole } from '../../common/files.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { encodeSafetensors, parseSafetensors } from '../../engine/io/safetensors.ts';
import type { Student } from '../../students/student.ts';
import { STATE_FILES, type StateKey } from '../../training/training-state.ts';
import type { Trained } from '../prepare/types.ts';
import type { Job } from '../run/context.ts';

/** What the ledger calls a training. @param name of one of several */
export const trainingStage = (name: string): string => (name ? `training ${name}` : 'training');
export const trainingFolder = (output: string, name: string): string => join(output, 'training', name);
const filesOf = (name: string): { weights: string; log: string } => ({
  weights: join('training', name, 'trained.safetensors'),
  log: join('training', name, 'trained.json'),
});
const BEFORE = 'before:';
const AFTER = 'after:';

/** The result of this very training, if an earlier run has finished it. */
export async function finishedTraining(
  job: Job,
  student: Student,
  key: StateKey,
  name = '',
): Promise<Trained | undefined> {
  if ((await job.ledger.why(trainingStage(name), key)) !== undefined) return undefined;
  const { weights, log } = filesOf(name);
  const tensors = parseSafetensors(await readFile(job.path(weights)), weights);
  const rest: Omit<Trained, 'weights' | 'initial'> = JSON.parse(await readFile(job.path(log), 'utf8'));
  const after = within(tensors, AFTER);
  const own = new Map(student.graph.constants.map((v) => [v.name, v.constant]));
  const before = within(tensors, BEFORE);
  const initial = new Map(before);
  for (const name of after.keys()) {
    const constant = own.get(name);
    if (!initial.has(name) && constant) initial.set(name, constant);
  }
  return { ...rest, bestScore: rest.bestScore ?? undefined, weights: after, initial };
}

/** Keeps the result; the state that led to it is not needed any more. */
export async function keepTraining(
  job: Job,
  student: Student,
  key: StateKey,
  trained: Trained,
  name = '',
): Promise<void> {
  const { weights, initial, ...rest } = trained;
  const files = filesOf(name);
  const own = new Map(student.graph.constants.map((v) => [v.name, v.constant]));
  // Weights that the student came with are in its own folder.
  const before = [...initial].filter(([n, t]) => !equal(own.get(n), t));
  const tensors = new Map([
    ...[...weights].map(([n, t]) => [AFTER + n, t] as const),
    ...before.map(([n, t]) => [BEFORE + n, t] as const),
  ]);
  await writeWhole(job.path(files.weights), encodeSafetensors(tensors));
  await writeWhole(job.path(files.log), canonicalJson(rest));
  await job.ledger.record(trainingStage(name), key, Object.values(files));
  await dropState(job, name);
}

export async function dropState(job: Job, name = ''): Promise<void> {
  const folder = trainingFolder(job.config.output, name);
  for (const file of await readdir(folder)) if (STATE_FILES.test(file)) await rm(join(folder, file), { force: true });
}

const within = (tensors: ReadonlyMap<string, Tensor>, prefix: string): Map<string, Tensor> =>
  new Map([...tensors].flatMap(([n, t]) => (n.startsWith(prefix) ? [[n.slice(prefix.length), t] as const] : [])));

function equal(a: Tensor | null | undefined, b: Tensor): boolean {
  const bytes = ({ data }: Tensor): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return a?.dtype === b.dtype && bytes(a).equals(bytes(b));
}
