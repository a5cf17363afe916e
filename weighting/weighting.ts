/** @file The interface of weightings: plain arrays in, a factor for each query's loss out; never differentiated through. */
import { InputError } from '../common/errors.ts';
import { fitConditionalLogit } from '../math/logistic-regression.ts';
import { listOf, mean, type ScoreLists, softmax, topTwo } from '../math/numbers.ts';
import { positionsOf } from '../math/ragged.ts';

/**
 * Inputs of weightings; n queries, each with a list of candidates. A query's pseudo-label is the candidate that the
 * teacher scores highest (the first of equals).
 */
export interface WeightingInputs {
  /** The teacher's raw scores. */
  teacher: ScoreLists;
  /** [all candidates] the current student's scores of the same candidates. */
  student?: ArrayLike<number>;
  /** [all candidates] scores by an independent second teacher, e.g. BM25. */
  second?: ArrayLike<number>;
  /** Scores of the same candidates by each further teacher. */
  ensemble?: readonly ArrayLike<number>[];
  /** Queries whose relevant candidates are known; never those that results are reported on. */
  labelled?: {
    /** Positions of these queries. */
    queries: ArrayLike<number>;
    /** [all candidates] 1 where a candidate is relevant; read for these queries alone. */
    relevant: ArrayLike<number>;
  };
  /** [n] the current student's loss of each query. */
  losses?: ArrayLike<number>;
  /** [n] the loss of each query under the other student in co-teaching. */
  peer?: ArrayLike<number>;
  /** Epochs done, fractional, for weightings that change with time. */
  epoch?: number;
}
export type WeightingInput = Exclude<keyof WeightingInputs, 'teacher'>;

export interface Weighted {
  /** [n] */
  weights: Float32Array;
  /** [n] the estimated probability that the pseudo-label is right, where one is estimated. */
  right?: Float64Array;
  /** [all candidates] log-probabilities to train on in place of the teacher's scores, at temperature 1. */
  targets?: Float32Array;
}

export interface Weighting {
  readonly name: string;
  readonly needs: readonly WeightingInput[];
  weigh(inputs: WeightingInputs): Weighted;
}

/** Makes a weighting that checks its inputs first. */
export function defineWeighting(
  name: string,
  needs: readonly WeightingInput[],
  weigh: (inputs: WeightingInputs) => Weighted,
): Weighting {
  return {
    name,
    needs,
    weigh(inputs) {
      const total = inputs.teacher.offsets[inputs.teacher.offsets.length - 1] ?? 0;
      const n = inputs.teacher.offsets.length - 1;
      const refuse = (subject: string, expected: string, received?: string): never => {
        throw new InputError({ code: 'weighting.input', subject, expected, received });
      };
      for (const input of needs)
        if (inputs[input] === undefined) refuse(`weighting '${name}' has no '${input}'`, needs.join(', '));
      const lengths: [string, ArrayLike<number> | undefined, number][] = [
        ['teacher', inputs.teacher.scores, total],
        ['student', inputs.student, total],
        ['second', inputs.second, total],
        ['labelled.relevant', inputs.labelled?.relevant, total],
        ['losses', inputs.losses, n],
        ['peer', inputs.peer, n],
        ...(inputs.ensemble ?? []).map((m, i): [string, ArrayLike<number>, number] => [`ensemble[${i}]`, m, total]),
      ];
      for (const [input, array, expected] of lengths)
        if (array && array.length !== expected)
          refuse(`'${input}' given to weighting '${name}'`, `${expected} numbers`, String(array.length));
      if (needs.includes('labelled') && !inputs.labelled?.queries.length)
        refuse(`weighting '${name}' has no labelled query`, 'some, to estimate from');
      return weigh(inputs);
    },
  };
}

/** Scaled to mean 1, so that the learning rate keeps its meaning; all 1 where the mean is 0. */
export function toMeanOne(weights: ArrayLike<number>): Float32Array {
  const m = mean(weights);
  return Float32Array.from(weights, (w) => (m > 0 ? w / m : 1));
}

/** [n] each list's pseudo-label as a position among all candidates; -1 of an empty list. */
export function pseudoLabels(teacher: ScoreLists): Int32Array {
  return Int32Array.from({ length: teacher.offsets.length - 1 }, (_, i) => {
    const { at } = topTwo(listOf(teacher, i));
    return at < 0 ? -1 : teacher.offsets[i] + at;
  });
}

/** Whether each labelled query's pseudo-label is relevant: 1 or 0, in the order of `labelled.queries`. */
export function labelledRight({ teacher, labelled }: WeightingInputs): Float64Array {
  const pseudo = pseudoLabels(teacher);
  return Float64Array.from(Array.from(labelled?.queries ?? []), (i) =>
    pseudo[i] >= 0 && labelled?.relevant[pseudo[i]] ? 1 : 0,
  );
}

/** Labelled lists that hold a relevant candidate, with the first of them. */
export function labelledLists({ teacher, labelled }: WeightingInputs): { from: number; to: number; right: number }[] {
  return Array.from(labelled?.queries ?? []).flatMap((i) => {
    const right = positionsOf(teacher.offsets, i).find((c) => labelled?.relevant[c]);
    return right === undefined ? [] : [{ from: teacher.offsets[i], to: teacher.offsets[i + 1], right }];
  });
}

/**
 * The temperature at which the softmax of scores gives the labelled relevant candidates the largest likelihood; the spread of the
 * scores if nothing is labelled or the scores carry no information.
 */
export function fittedTemperature(inputs: WeightingInputs, scores: ArrayLike<number>): number {
  const { offsets } = inputs.teacher;
  let spread = 0;
  const n = offsets.length - 1;
  for (let i = 0; i < n; i++) {
    const list = listOf({ offsets, scores }, i);
    const m = mean(list);
    if (list.length) spread += Math.sqrt(mean(list.map((v) => (v - m) ** 2))) / n;
  }
  const unit = spread > 0 ? spread : 1;
  const lists = labelledLists(inputs);
  if (!lists.length) return unit;
  const [w] = fitConditionalLogit({ width: 1, data: Float64Array.from(scores, (v) => v / unit) }, lists, 1e-3);
  return w > 1e-3 ? unit / w : unit;
}

/** Top probability, margin to the second, and entropy divided by log N of a list at a temperature. */
export function confidenceOf(
  list: Float64Array,
  temperature: number,
): { top: number; margin: number; entropy: number } {
  const p = softmax(list, temperature);
  const { first, second } = topTwo(p);
  if (p.length < 2) return { top: p.length, margin: p.length, entropy: 0 };
  let h = 0;
  for (const v of p) if (v > 0) h -= v * Math.log(v);
  return { top: first, margin: first - second, entropy: h / Math.log(p.length) };
}
