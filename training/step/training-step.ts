/** @file What a plan is: a way to run a training step, as a whole or chunk by chunk. */
import { InputError } from '../../common/errors.ts';
import type { Gradient } from '../../engine/autodiff/differentiate.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import type { TokenBatch } from '../batches/length-groups.ts';

export interface StepResult {
  /** The weighted total. */
  loss: number;
  /** Each loss's own mean, in the order given. */
  terms: number[];
}

/** What an optimizer needs of one parameter. */
export interface Parameter {
  readonly name: string;
  readonly dims: readonly number[];
  readonly data: Float32Array;
  /** The gradient as a whole, overwritten by every step; absent where only rows come. */
  readonly gradient?: Float32Array;
  /** The gradient as rows: each pair adds rows[i] to table row indices[i]. */
  rows?: { indices: BigInt64Array; rows: Float32Array }[];
}

/** A batch as plans take it. */
export interface PackedBatch {
  groups: readonly TokenBatch[];
  /** What the losses are given, by input name. */
  losses: Record<string, Tensor>;
  /** Where dropout of each group reads its masks. */
  dropout?: { table: Tensor; places: readonly Tensor[] };
}

/** A way to run a step: as a whole, or chunk by chunk. */
export interface Plan {
  readonly graph: Graph;
  /** Leaves the gradients in the parameters. */
  run(batch: PackedBatch): Promise<StepResult>;
  /** The first value of a batch's step that is not finite, where it can be found. */
  inspect?(batch: PackedBatch): Promise<string | undefined>;
  release(): Promise<void>;
}

/** A step before it is fit for host or device: its graph, and what that is given of a batch. */
export interface DifferentiatedStep<B> {
  graph: Graph;
  /** Inputs that hold weights, and what they start from. */
  start: ReadonlyMap<string, Tensor>;
  /** The gradient of each trained weight, as values of the graph. */
  gradients: ReadonlyMap<string, Gradient>;
  /** Outputs: the weighted total, and each loss's own mean. */
  total: string;
  terms: readonly string[];
  /** @param step decides dropout's masks */
  feeds(batch: B, step: number): Record<string, Tensor>;
}

/** The feeds that a graph asks for, by name. @throws InputError where one is missing */
export function wantedFeeds(
  names: readonly string[],
  ...given: readonly Record<string, Tensor>[]
): Record<string, Tensor> {
  return Object.fromEntries(
    names.map((name) => {
      const feed = given.find((g) => Object.hasOwn(g, name));
      if (!feed)
        throw new InputError({
          code: 'train.missing-input',
          subject: `the losses read '${name}' and the batch has none`,
          remedy: 'give it, or leave out the loss that reads it',
        });
      return [name, feed[name]];
    }),
  );
}
