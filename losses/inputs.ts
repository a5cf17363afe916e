/** @file The inputs of losses, described once: shapes, types, who makes them, and where padding can stand. */
import type { Expr } from '../engine/expressions/expr.ts';

/** What one input is. */
export interface InputDescription {
  /** B queries, N candidates each, M documents in the step; D and Dt the student's and the teacher's widths; S draws. */
  readonly dims: readonly Dimension[];
  /** Whole numbers, where it is not a float. */
  readonly integer?: true;
  /** Whether it is the student's, so that it has a gradient; all else is constant. */
  readonly student?: true;
  /**
   * Where a training step takes it from: made in the step's graph, given by every batch, given by batches whose losses ask for
   * it, or nowhere, so that it is for programs alone.
   */
  readonly from: 'step' | 'batch' | 'request' | 'program';
  /** Whether NaN stands for a value that is not known. */
  readonly unknown?: true;
}
export type Dimension = 'queries' | 'candidates' | 'documents' | 'width' | 'teacherWidth' | 'pairWidth' | 'draws';

const define = <T extends Record<string, InputDescription>>(
  table: T,
): { readonly [K in keyof T]: InputDescription & T[K] } => table;

/**
 * Every input that a loss may look at: B queries with N candidates each (column 0 is the labelled positive, where there is one);
 * M documents in the step, all queries' candidates without repeats; D and Dt the student's and the teacher's widths.
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
  /** [B, M] 1 where a document may stand against the query's positive: 0 for its other positives and for duplicates. */
  inBatch: { dims: ['queries', 'documents'], from: 'batch' },
  /** [B, M] 1 at one query a document: which query's value a document's own loss is added to. */
  owner: { dims: ['queries', 'documents'], from: 'batch' },
  /** [B, Dt] the teacher's query embeddings. */
  teacherQueries: { dims: ['queries', 'teacherWidth'], from: 'batch' },
  /** [M, Dt] the teacher's document embeddings. */
  teacherDocuments: { dims: ['documents', 'teacherWidth'], from: 'batch' },
  /** [B, N] how likely the teacher's label of a candidate is right, from 0 to 1. */
  reliability: { dims: ['queries', 'candidates'], from: 'request' },
  /** [B, S, N] S draws of Gumbel noise a query, new in each step. */
  gumbel: { dims: ['queries', 'draws', 'candidates'], from: 'request' },
  /** [B, N, Dt] a cross-encoder's mean vector of the query's tokens when it read query and candidate together. */
  pairQueries: { dims: ['queries', 'candidates', 'pairWidth'], from: 'request' },
  /** [B, N, Dt] a cross-encoder's mean vector of the document's tokens when it read query and candidate together. */
  pairDocuments: { dims: ['queries', 'candidates', 'pairWidth'], from: 'request' },
  /** [B, N] int64, each candidate's position among the documents of the step. */
  candidates: { dims: ['queries', 'candidates'], integer: true, from: 'step' },
  /** [B, D] student's query embeddings. */
  queries: { dims: ['queries', 'width'], student: true, from: 'step' },
  /** [M, D] student's document embeddings. */
  documents: { dims: ['documents', 'width'], student: true, from: 'step' },
  /** [D, Dt] learned map from the student's space to the teacher's, where the widths differ. */
  projection: { dims: ['width', 'teacherWidth'], student: true, from: 'step' },
  /** [B, M] the teacher's raw scores of all documents of the step; NaN where it was not asked. */
  teacherInBatch: { dims: ['queries', 'documents'], from: 'program', unknown: true },
});

/** The name of an input. */
export type LossInput = keyof typeof lossInputs;
/** The inputs as a loss receives them, as values of the graph; those that are not given are absent. */
export type LossInputs = { [K in LossInput]: Expr };
/** Inputs of which a step is told that batches bring them. */
export type RequestedInput = {
  [K in LossInput]: (typeof lossInputs)[K]['from'] extends 'request' ? K : never;
}[LossInput];

/** Inputs that a training step takes from a place. */
export const inputsFrom = <F extends InputDescription['from']>(from: F): LossInput[] =>
  (Object.keys(lossInputs) as LossInput[]).filter((name) => lossInputs[name].from === from);

/** Inputs on the student's side: those that have a gradient. */
export const studentInputs = (Object.keys(lossInputs) as LossInput[]).filter((name) => lossInputs[name].student);

/** Whether the mask's padding reaches into an input, so that anything may stand there. */
export const isPadded = (name: LossInput): boolean =>
  name !== 'mask' && !lossInputs[name].integer && lossInputs[name].dims.includes('candidates');

/** What a loss is made of: its name, the inputs it needs and those it uses where they are given, and its formula. */
export interface LossDefinition {
  readonly name: string;
  /** The inputs it cannot do without. */
  readonly needs: readonly LossInput[];
  /** The inputs it uses where they are given. */
  readonly uses?: readonly LossInput[];
  /** [B] the loss of each query, not yet weighted or averaged. */
  perQuery(inputs: LossInputs): Expr;
}
