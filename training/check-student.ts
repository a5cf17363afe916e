/**
 * @file Checks whether a folder can be a student: opens it, takes a training step, and encodes a text with the resulting model.
 */
import { FaultError, InputError } from '../common/errors.ts';
import { padBatch } from '../data/batches.ts';
import { loadGraph } from '../engine/io/onnx-file.ts';
import { infoNCE } from '../losses/info-nce.ts';
import { Encoder } from '../models/encoder.ts';
import { readModelFolder } from '../models/model-folder.ts';
import { withUnit } from '../models/modules/head.ts';
import { checkModel, type ModelCheck } from '../models/trainability.ts';
import { loadStudent } from '../students/encoder-student.ts';
import type { Student, Weights } from '../students/student.ts';
import type { StepBatch } from './batches/batches.ts';
import { HostLearner } from './host-learner.ts';
import { dualEncoderOnHost } from './step/dual-encoder-step.ts';

/** The content of a folder, whether it can be trained, and whether a training step succeeds. */
export interface StudentCheck extends ModelCheck {
  /** Why a run would fail, in a sentence; absent if a step and the resulting model's encoding succeeded. */
  problem?: string;
  /** Notes on assumptions made and parts ignored when the folder was read. */
  notes: readonly string[];
}

/** Texts of the trial step. */
const QUERIES = ['how to open a file', 'what is a kernel'];
const DOCUMENTS = ['a file is opened by its name', 'the kernel is the core of a system'];

/**
 * Checks a dual-encoder. A classifier, which `train-teacher` trains, is inspected without a trial step.
 * @throws InputError if the folder or file cannot be read as a model
 */
export async function checkStudent(folder: string): Promise<StudentCheck> {
  const found = await checkModel(folder);
  const { model } = await readModelFolder(folder);
  if ((await loadGraph(model)).outputs.some((v) => v.name === 'logits')) return { ...found, notes: [] };
  try {
    const student = await loadStudent(folder);
    await tryOut(student);
    return { ...found, notes: student.notes };
  } catch (error) {
    if (!(error instanceof InputError || error instanceof FaultError)) throw error;
    return { ...found, trainable: false, problem: error.message, notes: [] };
  }
}

/** @throws InputError or FaultError as a run would */
async function tryOut(student: Student): Promise<void> {
  const { graph: encoder, pooling, normalize } = student;
  const options = { encoder, pooling, normalize, losses: [{ loss: infoNCE(), weight: 1 }], groups: 1 };
  const step = await dualEncoderOnHost({ ...options, session: { threads: 1 } });
  let weights: Weights;
  try {
    const learner = new HostLearner(step);
    const { loss, gradientNorm } = await learner.step([batchOf(student)], 0, 1e-6);
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm))
      throw new FaultError({
        code: 'student.not-finite',
        subject: `a step has the loss ${loss} and the gradient norm ${gradientNorm}`,
        remedy: 'look for non-finite weights, or values beyond the range of float32',
      });
    weights = await learner.weights();
  } finally {
    await step.release();
  }
  const saved = await Encoder.of(await student.inferenceGraph(weights), {
    tokenizer: student.tokenizer,
    head: withUnit(student.headWith(weights), normalize),
    prompts: student.prompts,
    maxLength: student.maxLength,
    positions: student.positions,
    hash: '',
    name: 'the trained student',
  });
  await saved.dispose();
}

function batchOf(student: Student): StepBatch {
  const limit = Math.min(32, student.positions);
  const n = QUERIES.length;
  const pad = (tokens: ReturnType<Student['queryTokens']>[]) => padBatch(tokens, student.tokenizer.padId);
  const square = (at: (i: number) => number) =>
    ({ dtype: 'float32', dims: [n, n], data: Float32Array.from({ length: n * n }, (_, i) => at(i)) }) as const;
  return {
    queries: pad(QUERIES.map((t) => student.queryTokens(t, limit))),
    documents: [pad(DOCUMENTS.map((t) => student.documentTokens(t, limit)))],
    candidates: { dtype: 'int64', dims: [n, 1], data: BigInt64Array.from({ length: n }, (_, i) => BigInt(i)) },
    arrays: { positives: square((i) => Number(Math.floor(i / n) === i % n)), inBatch: square(() => 1) },
    weights: { dtype: 'float32', dims: [n], data: new Float32Array(n).fill(1) },
    padId: student.tokenizer.padId,
  };
}
