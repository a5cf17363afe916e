/** @file Functions on training examples: select from candidate lists, weight, relabel, replace negatives, save and restore. */

import type { CandidateLists } from '../../data/lists.ts';
import { type Tensor, vectorOf } from '../../engine/graph/tensor.ts';
import { softmax, topTwo } from '../../math/numbers.ts';
import { positionsOf, rowOf } from '../../math/ragged.ts';
import type { CandidateSelection } from '../../selection/index.ts';
import type { Weighted, WeightingInputs } from '../../weighting/index.ts';
import type { Examples } from './dual-encoder-batch.ts';

/** The judgements of a split, as positions. */
export interface Labels {
  /** Relevant documents with grades, by query. */
  relevant: ReadonlyMap<number, ReadonlyMap<number, number>>;
  /** Documents that must not be negatives of a query. */
  never: (query: number) => ReadonlySet<number>;
}

/**
 * Makes examples from candidate lists: known positives first, then the negatives that the selection keeps. Queries without any
 * candidate are left out and counted.
 * @param weights a factor for each list, e.g. from the query selection
 */
export function selectExamples(
  lists: CandidateLists,
  labels: Labels,
  { selection, seed, pseudoLabels }: { selection: CandidateSelection; seed: number; pseudoLabels: boolean },
  weights?: Float32Array,
): { examples: Examples; leftOut: number } {
  const positives = new Uint8Array(lists.documents.length);
  for (const [i, query] of lists.queries.entries()) {
    const relevant = labels.relevant.get(query);
    if (!relevant) continue;
    for (const at of positionsOf(lists.offsets, i)) if (relevant.has(lists.documents[at])) positives[at] = 1;
  }
  const { indices, offsets } = selection.select({ offsets: lists.offsets, scores: lists.scores, positives }, { seed });
  const kept: number[] = [];
  const ends: number[] = [0];
  const flat: number[] = [];
  const labelled: number[] = [];
  for (let i = 0; i < lists.queries.length; i++) {
    const own = Array.from(rowOf(indices, offsets, i));
    if (!own.length) continue;
    const known = positives[own[0]] === 1;
    // The teacher's best candidate takes the place of a label.
    if (!known && pseudoLabels) {
      const [best] = own.splice(bestOf(lists.scores, own), 1);
      own.unshift(best);
    }
    kept.push(i);
    labelled.push(known || pseudoLabels ? 1 : 0);
    for (const at of own) flat.push(at);
    ends.push(flat.length);
  }
  const examples: Examples = {
    queries: Int32Array.from(kept, (i) => lists.queries[i]),
    offsets: Int32Array.from(ends),
    documents: Int32Array.from(flat, (at) => lists.documents[at]),
    scores: Float32Array.from(flat, (at) => lists.scores[at]),
    labelled: Uint8Array.from(labelled),
    weights: Float32Array.from(kept, (i) => weights?.[i] ?? 1),
    grade: (query, document) => labels.relevant.get(query)?.get(document) ?? 0,
    relevant: labels.never,
  };
  return { examples, leftOut: lists.queries.length - kept.length };
}

/** Position of the largest score, the first of equals. */
function bestOf(scores: Float32Array, at: readonly number[]): number {
  return at.reduce((best, a, k) => (scores[a] > scores[at[best]] ? k : best), 0);
}

/** Examples with the result of a weighting. @param initial the examples before the first weighting */
export function weighed(
  examples: Examples,
  initial: Examples,
  { weights, targets, right }: Weighted,
  { pseudoLabels }: { pseudoLabels: boolean },
): Examples {
  const next: Examples = {
    ...examples,
    weights: Float32Array.from(weights, (w, i) => w * initial.weights[i]),
    scores: Float32Array.from(targets ?? initial.scores),
    ...(right && examples.reliability && { reliability: Float32Array.from(right) }),
  };
  return targets && pseudoLabels ? relabeled(next, initial.documents, targets) : next;
}

/**
 * The most probable candidate by the new labels replaces the teacher's best as the pseudo-label; known labels stay.
 * @param documents [all candidates] in the order of `targets`
 */
export function relabeled(examples: Examples, documents: Int32Array, targets: Float32Array): Examples {
  const next = {
    ...examples,
    documents: examples.documents.slice(),
    scores: examples.scores.slice(),
    reliability: examples.reliability?.slice(),
  };
  for (const [i, query] of examples.queries.entries()) {
    const own = positionsOf(examples.offsets, i);
    if (!own.length || examples.relevant(query).has(documents[own[0]])) continue;
    const from = own[0];
    const { at } = topTwo(rowOf(targets, examples.offsets, i));
    const order = [from + at, ...own.filter((c) => c !== from + at)];
    for (const [k, c] of order.entries())
      [next.documents[from + k], next.scores[from + k]] = [documents[c], targets[c]];
    if (next.reliability) next.reliability[i] = Math.exp(targets[from + at]);
  }
  return next;
}

/** Some of the examples, or all of them in another order. @param at positions of examples */
export function examplesAt(examples: Examples, at: Int32Array): Examples {
  const offsets = new Int32Array(at.length + 1);
  for (const [k, i] of at.entries()) offsets[k + 1] = offsets[k] + examples.offsets[i + 1] - examples.offsets[i];
  const documents = new Int32Array(offsets[at.length]);
  const scores = new Float32Array(offsets[at.length]);
  for (const [k, i] of at.entries()) {
    documents.set(rowOf(examples.documents, examples.offsets, i), offsets[k]);
    scores.set(rowOf(examples.scores, examples.offsets, i), offsets[k]);
  }
  const { reliability } = examples;
  return {
    ...examples,
    queries: Int32Array.from(at, (i) => examples.queries[i]),
    offsets,
    documents,
    scores,
    labelled: Uint8Array.from(at, (i) => examples.labelled[i]),
    weights: Float32Array.from(at, (i) => examples.weights[i]),
    ...(reliability && { reliability: Float32Array.from(at, (i) => reliability[i]) }),
  };
}

/** The queries with known labels, and their relevant candidates. */
export function labelledAmong(
  examples: Examples,
  labels: Labels['relevant'],
): NonNullable<WeightingInputs['labelled']> {
  const relevant = new Uint8Array(examples.documents.length);
  const queries: number[] = [];
  for (const [i, query] of examples.queries.entries()) {
    const known = labels.get(query);
    if (!known) continue;
    queries.push(i);
    for (const at of positionsOf(examples.offsets, i)) if (known.has(examples.documents[at])) relevant[at] = 1;
  }
  return { queries, relevant };
}

/** Temperature of the student's cosines in its loss per query. Assumption, as info-nce's default. */
const STUDENT_TEMPERATURE = 0.05;

/** -log softmax of the first candidate (the label or pseudo-label) under the student. */
export function studentLosses(
  { queries, offsets }: Pick<Examples, 'queries' | 'offsets'>,
  student: Float32Array,
): Float64Array {
  return Float64Array.from(queries, (_, i) => {
    const list = Float64Array.from(rowOf(student, offsets, i));
    return -Math.log(Math.max(softmax(list, STUDENT_TEMPERATURE)[0], 1e-12));
  });
}

/** Examples with new negatives after their labelled documents; the scores of these negatives are NaN. */
export function withNegatives(
  examples: Examples,
  negatives: { offsets: ArrayLike<number>; documents: Int32Array },
): Examples {
  const offsets = [0];
  const documents: number[] = [];
  for (let i = 0; i < examples.queries.length; i++) {
    for (const d of positivesOf(examples, i)) documents.push(d);
    for (const d of rowOf(negatives.documents, negatives.offsets, i)) documents.push(d);
    offsets.push(documents.length);
  }
  const scores = new Float32Array(documents.length).fill(Number.NaN);
  return { ...examples, offsets: Int32Array.from(offsets), documents: Int32Array.from(documents), scores };
}

/** Number of labelled documents (or pseudo-labels) of an example, which are its first candidates. */
export function positivesOf({ queries, documents, offsets, labelled, grade }: Examples, i: number): number[] {
  if (!labelled[i]) return [];
  const own = Array.from(rowOf(documents, offsets, i));
  const known = grade ? own.filter((d) => grade(queries[i], d) > 0) : [];
  return known.length ? known : own.slice(0, 1);
}

/** The candidates after the labelled documents. */
export function negativesOf(examples: Examples): { offsets: number[]; documents: number[] } {
  const offsets = [0];
  const documents: number[] = [];
  for (let i = 0; i < examples.queries.length; i++) {
    const own = rowOf(examples.documents, examples.offsets, i).subarray(positivesOf(examples, i).length);
    for (const d of own) documents.push(d);
    offsets.push(documents.length);
  }
  return { offsets, documents };
}

/**
 * Arrays of the examples that a training state saves, since renewals change them: refreshed candidates, current scores, weights.
 */
export function keptExamples(current: () => Examples, take: (examples: Examples) => void) {
  return {
    get(): Record<string, Tensor> {
      const { offsets, documents, scores, weights, reliability } = current();
      const kept = { offsets, documents, scores, weights, ...(reliability && { reliability }) };
      return Object.fromEntries(Object.entries(kept).map(([name, data]) => [name, vectorOf(data)]));
    },
    set(tensors: ReadonlyMap<string, Tensor>): void {
      const examples = current();
      const data = (name: string): ArrayLike<number> => {
        const tensor = tensors.get(name);
        if (!tensor) throw new Error(`it lacks the examples' ${name}`);
        return tensor.data as ArrayLike<number>;
      };
      take({
        ...examples,
        offsets: Int32Array.from(data('offsets')),
        documents: Int32Array.from(data('documents')),
        scores: Float32Array.from(data('scores')),
        weights: Float32Array.from(data('weights')),
        ...(examples.reliability && { reliability: Float32Array.from(data('reliability')) }),
      });
    },
  };
}
