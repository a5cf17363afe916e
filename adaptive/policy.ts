/** @file A cascade's policy: whether the teacher re-ranks a query's results, and how deep. */
import { type Parameters, type RuleName, rules } from './rules/index.ts';
import { type Fusion, features, type Query, servedOrder } from './rules/states.ts';

export interface Policy {
  /** How many documents the teacher has scored after each chunk, ascending. */
  readonly depths: readonly number[];
  readonly fusion: Fusion;
  readonly rule: RuleName;
  readonly parameters: Parameters;
  /** A chunk is scored while the rule's need is at least this. -Infinity: all chunks; Infinity: none. */
  readonly threshold: number;
  /** Of a teacher with exits: how settled a document's place must be before it leaves the layers; all layers where absent. */
  readonly exits?: number;
}

export interface Served {
  /** Positions in the student's list, best first. */
  order: Int32Array;
  /** Documents that the teacher scored. */
  scored: number;
  /** The rule's need before deferral, used to detect drift. */
  need: number;
}

/** Depths up to the length of a list; its end is always one of them. */
export const depthsOf = (depths: readonly number[], length: number): number[] => [
  ...depths.filter((d) => d < length),
  length,
];

/**
 * Serves one query.
 * @param student the student's scores, best first
 * @param score the teacher's logits of the documents at positions `from` to `to` of the student's list
 */
export async function serve(
  student: Float32Array,
  policy: Policy,
  score: (from: number, to: number) => Promise<ArrayLike<number>> | ArrayLike<number>,
): Promise<Served> {
  const query = { student, teacher: new Float32Array(student.length) };
  let [scored, before] = [0, 0];
  let first = Number.NaN;
  for (const depth of depthsOf(policy.depths, student.length)) {
    const need = rules[policy.rule].need(features(query, scored, before, policy.fusion), policy.parameters);
    if (scored === 0) first = need;
    if (!(need >= policy.threshold)) break;
    if (depth === scored) break;
    const logits = await score(scored, depth);
    for (let i = 0; i < depth - scored; i++) query.teacher[scored + i] = logits[i];
    [before, scored] = [scored, depth];
  }
  return { order: servedOrder(query, scored, policy.fusion), scored, need: first };
}

/**
 * The needs of a query at every state that a policy can be in, where the teacher's scores of its whole list are known.
 * @param known the features of these states, where they are kept
 */
export function needsOf(
  query: Query,
  policy: Omit<Policy, 'threshold'>,
  known?: readonly Float64Array[],
): Float64Array {
  const states = [0, ...depthsOf(policy.depths, query.student.length).slice(0, -1)];
  return Float64Array.from(states, (scored, j) =>
    rules[policy.rule].need(
      known?.[j] ?? features(query, scored, states[j - 1] ?? 0, policy.fusion),
      policy.parameters,
    ),
  );
}

/** Position among the states at which a policy with the threshold stops: 0 is the student alone. */
export function stopAt(needs: Float64Array, threshold: number): number {
  const at = needs.findIndex((need) => !(need >= threshold));
  return at < 0 ? needs.length : at;
}
