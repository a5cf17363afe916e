/** @file Reports a step with non-finite loss or gradient: what was seen, in which batch, and the first non-finite tensor. */
import { FaultError } from '../common/errors.ts';
import { allFinite } from '../math/finite.ts';
import type { Batches } from './batches/batches.ts';
import type { Learner } from './host-learner.ts';

/** Maximum of ids in a message; a batch rarely has more. */
const NAMED = 64;

class NotFinite extends FaultError {
  readonly what: string;
  /** Whether every later step would fail too. */
  readonly lasting: boolean;
  constructor(step: number, what: string, lasting: boolean) {
    super({
      code: 'train.not-finite',
      subject: `training stopped at step ${step + 1}: ${what}`,
      remedy: lasting
        ? 'use a model with finite weights; the state before this step is kept'
        : 'lower train.learningRate or set train.onNonFinite to skip and run the same command again; the state before this step is kept',
    });
    this.what = what;
    this.lasting = lasting;
  }
}

/** A step with non-finite numbers. */
export interface BadStep<B> {
  step: number;
  /** Number of its first batch. */
  first: number;
  loss: number;
  terms: readonly number[];
  drawn: readonly B[];
}

/** Finds the first non-finite tensor, in the order in which a step reads and computes them. */
export async function notFinite<B>(
  { step, first, loss, terms, drawn }: BadStep<B>,
  learner: Learner<B>,
  batches: Batches<B>,
  names: readonly string[] = [],
): Promise<NotFinite> {
  const input = drawn.flatMap((b) => [...(batches.arrays?.(b) ?? [])]).find(([, data]) => !allFinite(data))?.[0];
  const weight = [...(await learner.weights())].find(([, t]) => !allFinite(t.data as Float32Array))?.[0];
  const found =
    (input && `the batch's '${input}'`) ??
    (weight && `the weight '${weight}'`) ??
    (await learner.notFinite(drawn, first));
  const term = terms.findIndex((t) => !Number.isFinite(t));
  const where =
    term >= 0
      ? `the loss term ${names[term] ?? term} is ${terms[term]}`
      : Number.isFinite(loss)
        ? 'a gradient is non-finite'
        : `the loss is ${loss}`;
  const ids = drawn.flatMap((b) => [...(batches.ids?.(b) ?? [])]);
  const more = ids.length > NAMED ? `, ${ids.length - NAMED} more` : '';
  const queries = ids.length ? ` (queries ${ids.slice(0, NAMED).join(', ')}${more})` : '';
  const tensor = found ? `, the first non-finite tensor is ${found}` : '';
  return new NotFinite(step, `${where}${tensor}${queries}`, weight !== undefined);
}
