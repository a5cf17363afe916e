/** @file A finished training in the run's folder, and the state of one under way. */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson, hashParts, writeWhole } from '../../common/files.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { encodeSafetensors, parseSafetensors } from '../../engine/io/safetensors.ts';
import { differing } from '../../run/stages/fingerprint.ts';
import type { Keep } from '../../run/stages/stage.ts';
import type { Student } from '../../students/student.ts';
import { peekState, STATE_FILES } from '../../training/training-state.ts';
import type { Trained, TrainingInputs } from './parts/fit.ts';

/** Inputs that count by what was made of them: scores of another machine are others. */
export const contentOfTraining = {
  parts: ['the starting weights', 'the examples', "the teacher's scores", "the embedder's vectors"],
  of({
    examples,
    start,
    documents,
    queries,
    extra,
    kept,
    earlier,
    robust,
    head,
  }: TrainingInputs): Record<string, string> {
    return {
      'the starting weights': start
        ? hashParts(...[...start].flatMap(([n, t]) => [n, bytesOf(t.data)]))
        : head
          ? hashParts(bytesOf(head.data))
          : '',
      'the examples': hashParts(
        ...[examples.queries, examples.offsets, examples.documents, examples.labelled, examples.weights].map(bytesOf),
        ...(examples.reliability ? [bytesOf(examples.reliability)] : []),
      ),
      "the teacher's scores": hashParts(
        ...[examples.scores, ...(earlier?.scores ?? []), ...(robust ? [robust.clean, robust.adversarial] : [])].map(
          bytesOf,
        ),
      ),
      "the embedder's vectors": hashParts(
        ...[queries, documents, extra?.embeddings].map((e) => (e ? bytesOf(e.data) : '')),
        ...(kept ? [bytesOf(kept.embeddings.data)] : []),
      ),
    };
  },
};

const bytesOf = (a: ArrayLike<unknown>): Uint8Array => {
  const view = a as unknown as ArrayBufferView;
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
};

const WEIGHTS = join('training', 'trained.safetensors');
const LOG = join('training', 'trained.json');
const BEFORE = 'before:';
const AFTER = 'after:';

/** Weights and log, so that what comes after can be done again alone; weights that the student came with are in its folder. */
export const keepTraining: Keep<Trained, { student: Student }> = {
  async save({ weights, initial, ...rest }, { student }, { path }) {
    const own = constantsOf(student);
    const before = [...initial].filter(([n, t]) => !equal(own.get(n), t));
    const tensors = new Map([
      ...[...weights].map(([n, t]) => [AFTER + n, t] as const),
      ...before.map(([n, t]) => [BEFORE + n, t] as const),
    ]);
    await writeWhole(path(WEIGHTS), encodeSafetensors(tensors));
    await writeWhole(path(LOG), canonicalJson(rest));
    return [WEIGHTS, LOG];
  },
  async load({ student }, { path }) {
    const tensors = parseSafetensors(await readFile(path(WEIGHTS)), WEIGHTS);
    const rest: Omit<Trained, 'weights' | 'initial'> = JSON.parse(await readFile(path(LOG), 'utf8'));
    const after = within(tensors, AFTER);
    const own = constantsOf(student);
    const initial = within(tensors, BEFORE);
    for (const name of after.keys()) {
      const constant = own.get(name);
      if (!initial.has(name) && constant) initial.set(name, constant);
    }
    return { ...rest, bestScore: rest.bestScore ?? undefined, weights: after, initial };
  },
  async settle({ path }) {
    const folder = path('training');
    for (const file of await readdir(folder)) if (STATE_FILES.test(file)) await rm(join(folder, file), { force: true });
  },
  async begun(fingerprint, { path }) {
    const state = await peekState(path('training'));
    return state && !differing(state.key, fingerprint).length ? `it goes on from step ${state.step}` : undefined;
  },
};

const constantsOf = ({ graph }: Student): Map<string, Tensor | null> =>
  new Map(graph.constants.map((v) => [v.name, v.constant]));

const within = (tensors: ReadonlyMap<string, Tensor>, prefix: string): Map<string, Tensor> =>
  new Map([...tensors].flatMap(([n, t]) => (n.startsWith(prefix) ? [[n.slice(prefix.length), t] as const] : [])));

function equal(a: Tensor | null | undefined, b: Tensor): boolean {
  const bytes = ({ data }: Tensor): Buffer => Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return a?.dtype === b.dtype && bytes(a).equals(bytes(b));
}
