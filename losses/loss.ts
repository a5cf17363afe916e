/** @file The shape of a loss: one definition in the engine's expressions, used in training graphs and on plain arrays. */
import type { Expr } from '../engine/expressions/expr.ts';
import { type ArrayInput, type Evaluation, evaluate } from './evaluate.ts';
import { isPadded, type LossDefinition, type LossInput, type LossInputs, lossInputs } from './inputs.ts';

export { type ArrayInput, type Evaluation, reduce } from './evaluate.ts';
export type { LossDefinition, LossInput, LossInputs } from './inputs.ts';

/** A loss, as a training step and `evaluate` take it. */
export interface Loss extends LossDefinition {
  readonly uses: readonly LossInput[];
  /**
   * Value and gradients on plain arrays, in float64; no model is needed. The first call for a shape compiles the loss, later
   * calls reuse that.
   * @param arrays the inputs named in `needs`, and any of `uses`, with the shapes of LossInputs
   * @param weights [B] a factor for each query; 1 by default
   * @throws InputError where an input is missing, shapes disagree or a number that counts is not finite
   */
  evaluate(arrays: Partial<Record<LossInput, ArrayInput>>, weights?: ArrayLike<number>): Promise<Evaluation>;
}

/**
 * Makes a loss from its definition. Teacher inputs reach `perQuery` without gradient, and padding under the mask is set to 0.
 *
 * @param definition `perQuery` returns [B], unreduced, and leaves padding out by `mask`
 *
 *     const absoluteError = defineLoss({
 *       name: 'absolute-error',
 *       needs: ['student', 'teacher', 'mask'],
 *       perQuery: ({ student, teacher, mask }) => student.sub(teacher).abs().mul(mask).sum([1]),
 *     });
 */
export function defineLoss(definition: LossDefinition): Loss {
  const made: Loss = {
    ...definition,
    perQuery: (inputs) => definition.perQuery(prepared(inputs)),
    uses: definition.uses ?? [],
    evaluate: (arrays, weights) => evaluate(made, arrays, weights),
  };
  return made;
}

/** Teacher inputs are constant; padding under the mask is set to 0, so that nothing there counts, not even NaN. */
function prepared(inputs: LossInputs): LossInputs {
  const real = inputs.mask?.greater(0); // [B, N]
  const clean = (name: LossInput, e: Expr): Expr => {
    if (!real || !isPadded(name)) return e;
    const others = lossInputs[name].dims.flatMap((d, i) => (d === 'queries' || d === 'candidates' ? [] : [i]));
    return (others.length ? real.unsqueeze(...others) : real).where(e, 0);
  };
  const held = (name: LossInput, e: Expr): Expr => {
    const { student, integer } = lossInputs[name];
    return student || integer ? clean(name, e) : clean(name, e).stopGradient();
  };
  return Object.fromEntries(
    (Object.entries(inputs) as [LossInput, Expr | undefined][]).flatMap(([name, e]) =>
      e ? [[name, held(name, e)]] : [],
    ),
  ) as unknown as LossInputs;
}

/** Scores with padding set to a very low finite number, so that its softmax is 0 and no NaN arises. */
export const masked = (scores: Expr, mask: Expr): Expr => mask.greater(0).where(scores, -1e9);

/** Each document's value [M], added to the query that owns it, so that the mean over queries equals the mean over documents. */
export const byOwner = (each: Expr, owner: Expr): Expr =>
  // Each column of owner [B, M] holds a single 1, so the mean of the rows' sums is M / B.
  owner
    .mul(each.unsqueeze(0))
    .sum([1])
    .div(owner.sum([1]).mean([0], true));

/** Mean over a query's candidates, padding left out; 0 where there is none. */
export const meanOver = (values: Expr, mask: Expr): Expr =>
  values
    .mul(mask)
    .sum([1])
    .div(mask.sum([1]).max(1));

/**
 * [B, M] the teacher's scores of all documents of the step and whether it gave one: as given, or the dot products of its
 * embeddings.
 */
export function scoresInBatch(
  { teacherInBatch, teacherQueries, teacherDocuments }: LossInputs,
  from: 'given' | 'embeddings',
): { scores: Expr; known: Expr | undefined } {
  if (from === 'embeddings')
    return { scores: teacherQueries.matmul(teacherDocuments.transpose(1, 0)).stopGradient(), known: undefined };
  const known = teacherInBatch.equal(teacherInBatch).float(); // NaN equals nothing
  return { scores: known.greater(0).where(teacherInBatch, 0).stopGradient(), known };
}

/** [B] one value [1] of the whole step, the same for every query. */
export const ofStep = (value: Expr, queries: Expr): Expr =>
  value.expandTo(queries.op('Shape', [], { start: 0, end: 1 }));

/** T^2 KL(softmax(t / T) || softmax(s / T')) along the last axis, over what the mask leaves. */
export function divergence(
  student: Expr,
  teacher: Expr,
  mask: Expr,
  temperature: number,
  studentTemperature: number,
): Expr {
  const logP = masked(teacher.mul(1 / temperature), mask)
    .logSoftmax()
    .stopGradient();
  const logQ = masked(student.mul(1 / studentTemperature), mask).logSoftmax();
  // Padding has p = 0 and finite logarithms, so it adds nothing.
  return logP
    .exp()
    .mul(logP.sub(logQ))
    .mul(mask)
    .sum([-1])
    .mul(temperature ** 2);
}

/** 1 off the diagonal of [n, n], n the rows of e. */
export function notSelf(e: Expr): Expr {
  const place = e
    .stopGradient()
    .mul(0)
    .add(1)
    .mean([1])
    .op('CumSum', [e.ints(0).squeeze(0)]); // 1, 2, ..., n
  return place.unsqueeze(1).equal(place.unsqueeze(0)).not().float();
}
