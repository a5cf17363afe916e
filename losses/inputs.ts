/** @file The table of loss inputs: shapes, types, which part of a step makes them, and where they can hold padding. */
import type { Expr } from '../engine/expressions/expr.ts';

/** What one input is. */
export interface InputDescription {
  /** B queries, N candidates each, M documents in the step; D and Dt the student's and the teacher's widths; S draws; T texts. */
  readonly dims: readonly Dimension[];
  /** Integer type, where it is not a float. */
  readonly integer?: true;
  /** Whether it belongs to the student and so has a gradient; all others are constant. */
  readonly student?: true;
  /**
   * Source of the input in a training step: made in the step's graph, read of the student's layers there, part of every batch, part of batches whose losses use it,
   * or none (only for `evaluate` on plain arrays).
   */
  readonly from: 'step' | 'layers' | 'batch' | 'request' | 'program';
  /** Whether NaN marks an unknown value. */
  readonly unknown?: true;
}
export type Dimension =
  | 'queries'
  | 'candidates'
  | 'documents'
  | 'width'
  | 'teacherWidth'
  | 'pairWidth'
  | 'draws'
  | 'texts'
  | 'experts'
  | 'layers';

const define = <T extends Record<string, InputDescription>>(
  table: T,
): { readonly [K in keyof T]: InputDescription & T[K] } => table;

/**
 * Every input that a loss can use: B queries with N candidates each (column 0 is the labelled positive, where there is one);
 * M documents in the step, all queries' candidates without repeats; D and Dt the student's and the teacher's widths;
 * T texts that the student encodes in the step.
 */
export const lossInputs = define({
  /** [B, N] student's scores of each query's candidates: dot products, unscaled. */
  student: { dims: ['queries', 'candidates'], student: true, from: 'step' },
  /** [B, N] teacher's raw scores (logits). */
  teacher: { dims: ['queries', 'candidates'], from: 'batch' },
  /** [B, N] 1 for a candidate, 0 for padding. */
  mask: { dims: ['queries', 'candidates'], from: 'batch' },
  /** [B, M] 1 where a document is the query's labelled positive. */
  positives: { dims: ['queries', 'documents'], from: 'batch' },
  /** [B, M] 1 where a document is compared with the query's positive; 0 for its other positives and for duplicates. */
  inBatch: { dims: ['queries', 'documents'], from: 'batch' },
  /** [B, M] a single 1 per document, at the query to whose value the document's own loss is added. */
  owner: { dims: ['queries', 'documents'], from: 'batch' },
  /** [B, Dt] the teacher's query embeddings. */
  teacherQueries: { dims: ['queries', 'teacherWidth'], from: 'batch' },
  /** [M, Dt] the teacher's document embeddings. */
  teacherDocuments: { dims: ['documents', 'teacherWidth'], from: 'batch' },
  /** [B, N] probability that the teacher's label of a candidate is right. */
  reliability: { dims: ['queries', 'candidates'], from: 'request' },
  /** [B, S, N] S draws of Gumbel noise a query, new in each step. */
  gumbel: { dims: ['queries', 'draws', 'candidates'], from: 'request' },
  /** [B, N, Dt] a cross-encoder's mean vector of the query's tokens, from the joint encoding of query and candidate. */
  pairQueries: { dims: ['queries', 'candidates', 'pairWidth'], from: 'request' },
  /** [B, N, Dt] a cross-encoder's mean vector of the document's tokens, from the joint encoding of query and candidate. */
  pairDocuments: { dims: ['queries', 'candidates', 'pairWidth'], from: 'request' },
  /** [B, N] int64, each candidate's position among the documents of the step. */
  candidates: { dims: ['queries', 'candidates'], integer: true, from: 'step' },
  /** [B, D] student's query embeddings. */
  queries: { dims: ['queries', 'width'], student: true, from: 'step' },
  /** [M, D] student's document embeddings. */
  documents: { dims: ['documents', 'width'], student: true, from: 'step' },
  /** [D] how many dimensions of the student's space each column stands for, where a step computes a sample of them. */
  columns: { dims: ['width'], from: 'step' },
  /** [D, Dt] learned map from the student's space to the teacher's, where the widths differ. */
  projection: { dims: ['width', 'teacherWidth'], student: true, from: 'step' },
  /** [T, K] sums over a text's tokens of each expert's probability; the K columns are the experts of all layers. */
  gates: { dims: ['texts', 'experts'], student: true, from: 'layers' },
  /** [T, K] tokens of a text whose first choice is the expert. */
  routed: { dims: ['texts', 'experts'], from: 'layers' },
  /** [T, layers] the mean absolute hidden unit of a text's tokens in the feed-forward network of a layer. */
  activations: { dims: ['texts', 'layers'], student: true, from: 'layers' },
  /** [B, M] the teacher's raw scores of all documents of the step; NaN where a pair was not scored. */
  teacherInBatch: { dims: ['queries', 'documents'], from: 'program', unknown: true },
});

/** The name of an input. */
export type LossInput = keyof typeof lossInputs;
/** The inputs as a loss receives them, as values of the graph; those that are not given are absent. */
export type LossInputs = { [K in LossInput]: Expr };
/** Inputs that a step must be told to expect from batches. */
export type RequestedInput = {
  [K in LossInput]: (typeof lossInputs)[K]['from'] extends 'request' ? K : never;
}[LossInput];

/** Inputs that a training step takes from a place. */
export const inputsFrom = <F extends InputDescription['from']>(from: F): LossInput[] =>
  (Object.keys(lossInputs) as LossInput[]).filter((name) => lossInputs[name].from === from);

/** Inputs of the student: those that have a gradient. */
export const studentInputs = (Object.keys(lossInputs) as LossInput[]).filter((name) => lossInputs[name].student);

/** Inputs that are read of a student's layers: only some architectures have them. */
export type LayerInput = {
  [K in LossInput]: (typeof lossInputs)[K]['from'] extends 'layers' ? K : never;
}[LossInput];
export const layerInputs = inputsFrom('layers') as readonly LayerInput[];

/** Whether an input has padding under the mask, where its values are arbitrary. */
export const isPadded = (name: LossInput): boolean =>
  name !== 'mask' && !lossInputs[name].integer && lossInputs[name].dims.includes('candidates');

/** The definition of a loss: its name, the inputs it needs, those it uses where they are given, and its formula. */
export interface LossDefinition {
  readonly name: string;
  /** Required inputs. */
  readonly needs: readonly LossInput[];
  /** Optional inputs. */
  readonly uses?: readonly LossInput[];
  /** Share of a training over which the loss's weight grows quadratically from 0; full from the first step where absent. */
  readonly ramp?: number;
  /** [B] the loss of each query, not yet weighted or averaged. */
  perQuery(inputs: LossInputs): Expr;
}
