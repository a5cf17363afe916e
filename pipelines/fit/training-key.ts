/** @file What a training's saved state belongs to, and what of its examples the state carries. */
import { hashParts } from '../../common/files.ts';
import { type Tensor, vectorOf } from '../../engine/graph/tensor.ts';
import type { Weights } from '../../students/student.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import type { KeptArrays, StateKey } from '../../training/training-state.ts';
import type { Lesson } from '../prepare/types.ts';
import type { Job } from '../run/context.ts';

/** What of a training's key is known when its examples are made; the rest follows from what the run is told. */
export const MADE_ON_THE_WAY = [
  'the training',
  'the starting weights',
  'the examples',
  "the teacher's scores",
  "the embedder's vectors",
] as const;

/** The key that the run's inputs give, and what was made of them: scores of another machine are others. */
export function trainingKey(
  { keys }: Pick<Job, 'keys'>,
  { examples, targets, extra }: Lesson,
  name = '',
  start?: Weights,
): StateKey {
  const made: Record<(typeof MADE_ON_THE_WAY)[number], string> = {
    'the training': name,
    'the starting weights': start ? hashParts(...[...start].flatMap(([n, t]) => [n, bytesOf(t.data)])) : '',
    'the examples': hashParts(
      ...[examples.queries, examples.offsets, examples.documents, examples.labelled, examples.weights].map(bytesOf),
    ),
    "the teacher's scores": hashParts(bytesOf(examples.scores)),
    "the embedder's vectors": hashParts(
      ...[targets.queries, targets.documents, extra?.embeddings].map((e) => (e ? bytesOf(e.data) : '')),
    ),
  };
  return { ...keys.training, ...made };
}

const bytesOf = (a: ArrayLike<unknown>): Uint8Array => {
  const view = a as unknown as ArrayBufferView;
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
};

/** What runs before steps changes in the examples: candidates found again, scores of the moment, weights. */
export function keptExamples(examples: Examples): KeptArrays {
  return {
    get: () => ({
      offsets: vectorOf(examples.offsets),
      documents: vectorOf(examples.documents),
      scores: vectorOf(examples.scores),
      weights: vectorOf(examples.weights),
      ...(examples.reliability && { reliability: vectorOf(examples.reliability) }),
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
