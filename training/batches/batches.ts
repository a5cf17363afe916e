/** @file What a batch of each kind of step holds. */

import type { Tensor } from '../../engine/index.ts';
import type { LossInputs } from '../../losses/loss.ts';
import type { TokenBatch } from './length-groups.ts';

/** Batches by number: the same number is the same batch, whatever was drawn before. */
export interface Batches<B> {
  draw(number: number): B | Promise<B>;
  /** Ids of what a batch holds, for the message of a step that went wrong. */
  ids?(batch: B): readonly string[];
  /** Arrays that a batch gives the losses, by name: examined where a step went wrong. */
  arrays?(batch: B): Iterable<readonly [string, ArrayLike<number>]>;
}
export interface StepBatch {
  queries: TokenBatch;
  /** One batch a group; empty where documents are frozen. */
  documents: readonly TokenBatch[];
  /** [M, D] where documents are frozen. */
  documentEmbeddings?: Tensor;
  /** [B, N] positions among the step's documents, in the order of the groups. */
  candidates: Tensor<'int64'>;
  /** float32 [B, N] and so on, by the losses' names for them. */
  arrays: Partial<Record<Exclude<keyof LossInputs, 'student' | 'queries' | 'documents' | 'projection'>, Tensor>>;
  /** [B] */
  weights: Tensor;
  extra?: { texts: TokenBatch; embeddings: Tensor };
  /** The token that fills up shorter texts; read off the batches' own padding where absent. */
  padId?: number;
}
export interface PairBatch {
  /** Positions of the batch's examples. */
  exampleIds: readonly number[];
  /** The step's pairs, in groups of like length. */
  pairs: readonly TokenBatch[];
  /** [B, N] each candidate's position among the pairs, in the order of the groups; 0 for padding. */
  places: Tensor<'int64'>;
  /** [B, N] what the logits should say. */
  targets: Tensor;
  /** [B, N] 1 for a candidate, 0 for padding. */
  mask: Tensor;
  /** [B] a factor for each query's loss. */
  weights: Tensor;
}
