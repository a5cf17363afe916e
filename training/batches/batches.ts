/** @file The batch types of training steps. */

import type { Tensor } from '../../engine/index.ts';
import type { LossInputs } from '../../losses/loss.ts';
import type { TokenBatch } from './length-groups.ts';

/** Batches by number: a number always gives the same batch, independent of earlier calls. */
export interface Batches<B> {
  draw(number: number): B | Promise<B>;
  /** Ids of a batch's examples, for the message about a non-finite step. */
  ids?(batch: B): readonly string[];
  /** Loss inputs of a batch, by name: examined after a non-finite step. */
  arrays?(batch: B): Iterable<readonly [string, ArrayLike<number>]>;
}
export interface StepBatch {
  queries: TokenBatch;
  /** One batch per group; empty where documents are frozen. */
  documents: readonly TokenBatch[];
  /** [M, D] where documents are frozen. */
  documentEmbeddings?: Tensor;
  /** [B, N] positions among the step's documents, in the order of the groups. */
  candidates: Tensor<'int64'>;
  /** [B, M] what a lexical channel adds to the student's scores. */
  lexical?: Tensor<'float32'>;
  /** Loss inputs by name, float32 [B, N] and so on. */
  arrays: Partial<Record<Exclude<keyof LossInputs, 'student' | 'queries' | 'documents' | 'projection'>, Tensor>>;
  /** [B] */
  weights: Tensor;
  extra?: { texts: TokenBatch; embeddings: Tensor };
  /** Texts whose embeddings stay near given ones. */
  kept?: { texts: TokenBatch; embeddings: Tensor };
  /** The padding token id; read from the batches' padding where absent. */
  padId?: number;
}
export interface PairBatch {
  /** Positions of the batch's examples. */
  exampleIds: readonly number[];
  /** The step's pairs, in groups of similar length. */
  pairs: readonly TokenBatch[];
  /** [B, N] each candidate's position among the pairs, in the order of the groups; 0 for padding. */
  places: Tensor<'int64'>;
  /** [B, N] target logits. */
  targets: Tensor;
  /** [B, N] 1 for a candidate, 0 for padding. */
  mask: Tensor;
  /** [B] a factor for each query's loss. */
  weights: Tensor;
}
