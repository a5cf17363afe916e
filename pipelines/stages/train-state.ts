/** @file What a training's saved state belongs to, and what of its examples the state carries. */
import { canonicalJson, hashFile, hashParts } from '../../common/files.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import type { Weights } from '../../students/student.ts';
import type { Examples } from '../../training/examples.ts';
import type { KeptArrays, StateKey } from '../../training/state.ts';
import type { Config } from '../config.ts';
import type { Job } from './job.ts';
import type { Lesson } from './train.ts';

/** Options that change no weight beyond rounding: where things are, how often state is saved, how much is done at a time. */
const WITHOUT_EFFECT = new Set([
  'cache',
  'data.path',
  'embedder.model',
  'memory',
  'output',
  'student.model',
  'teacher.model',
  'train.onNonFinite',
  'train.saveEvery',
]);

/** Options by their dotted names, those without an effect on the weights left out. */
export function effectiveOptions({ evaluate: _, ...config }: Config): StateKey {
  const flat: Record<string, string> = {};
  const add = (value: unknown, at: string): void => {
    if (WITHOUT_EFFECT.has(at) || value === undefined) return;
    if (value && typeof value === 'object' && !Array.isArray(value))
      for (const [k, v] of Object.entries(value)) add(v, at ? `${at}.${k}` : k);
    else flat[at] = canonicalJson(value);
  };
  add(config, '');
  return flat;
}

/** The options by name; models, data, scores and embeddings by content: what lies elsewhere or has another name is the same. */
export async function trainingKey(
  { config, dataset, teacher, embedder }: Job,
  { student, examples, targets, extra }: Lesson,
  name = '',
  start?: Weights,
): Promise<StateKey> {
  const labels = dataset.splits.map((s) => [s, [...dataset.qrels(s)].map(([q, grades]) => [q, [...grades]])]);
  return {
    ...effectiveOptions(config),
    'the training': name,
    'the documents': dataset.documents.hash,
    'the queries': dataset.queries.hash,
    'the judgements': hashParts(canonicalJson(labels)),
    "the student's model": await hashFile(student.folder.model),
    "the student's tokenizer": student.tokenizer.hash,
    'the teacher': teacher?.key ?? '',
    'the embedder': embedder?.key ?? '',
    'the starting weights': start ? hashParts(...[...start].flatMap(([n, t]) => [n, bytesOf(t.data)])) : '',
    'the examples': hashParts(
      ...[examples.queries, examples.offsets, examples.documents, examples.labelled, examples.weights].map(bytesOf),
    ),
    "the teacher's scores": hashParts(bytesOf(examples.scores)),
    "the embedder's vectors": hashParts(
      ...[targets.queries, targets.documents, extra?.embeddings].map((e) => (e ? bytesOf(e.data) : '')),
    ),
  };
}

const bytesOf = (a: ArrayLike<unknown>): Uint8Array => {
  const view = a as unknown as ArrayBufferView;
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
};

/** What runs before steps changes in the examples: candidates found again, scores of the moment, weights. */
export function keptExamples(examples: Examples): KeptArrays {
  const float = (data: Float32Array): Tensor => ({ dtype: 'float32', dims: [data.length], data });
  const int = (data: Int32Array): Tensor => ({ dtype: 'int32', dims: [data.length], data });
  return {
    get: () => ({
      offsets: int(examples.offsets),
      documents: int(examples.documents),
      scores: float(examples.scores),
      weights: float(examples.weights),
      ...(examples.reliability && { reliability: float(examples.reliability) }),
    }),
    set(tensors) {
      const data = (name: string): Tensor['data'] => {
        const tensor = tensors.get(name);
        if (!tensor) throw new Error(`it lacks the examples' ${name}`);
        return tensor.data;
      };
      examples.offsets = Int32Array.from(data('offsets') as Int32Array);
      examples.documents = Int32Array.from(data('documents') as Int32Array);
      examples.scores = Float32Array.from(data('scores') as Float32Array);
      examples.weights.set(data('weights') as Float32Array);
      examples.reliability?.set(data('reliability') as Float32Array);
    },
  };
}
