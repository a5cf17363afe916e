/** @file The data of a report: plain JSON; every part except the systems is optional. */
import type { IndexFigures } from '../../retrieval/approximate-search.ts';
import type { MetricComparison } from '../metrics/compare.ts';
import type { Fidelity } from '../metrics/fidelity.ts';

/** One row of the table of systems. */
export interface SystemFigures {
  name: string;
  role: 'student' | 'teacher' | 'baseline' | 'other';
  /** Means over the split's judged queries. */
  metrics: Record<string, number>;
  /** Size of its model file. */
  bytes?: number;
  /** Median time to answer a query: to embed it, or to score its candidates. */
  queryMilliseconds?: number;
}

/** One system compared with another over the same queries. */
export interface Comparison {
  a: string;
  b: string;
  /** E.g. `the same candidates`. */
  on: string;
  rows: MetricComparison[];
}

/** Cost of running a model, measured in a separate process where possible. */
export interface CostFigures {
  name: string;
  role: 'student' | 'teacher';
  /** Size of the .onnx file, and weights in it. */
  bytes: number;
  parameters: number;
  /** One query at a time: an encoder embeds its text, a cross-encoder scores its candidates. */
  p50: number;
  p95: number;
  /** How many single queries were timed after warm-up. */
  timed: number;
  /** Pairs per query that a cross-encoder scores. */
  pairs?: number;
  /** In batches; absent for a cross-encoder, whose batches are its queries' candidates. */
  textsPerSecond?: number;
  loadMilliseconds: number;
  /** Peak resident memory of the separate process; absent without one. */
  peakBytes?: number;
  /** Mean of the first metric, where the file was evaluated as a separate student. */
  quality?: number;
}

/** A query where two systems disagree, with the top documents of each. */
export interface Example {
  queryId: string;
  query: string;
  a: number;
  b: number;
  /** Top documents of each. */
  topA: ExampleDocument[];
  topB: ExampleDocument[];
}

/** A document of an example query. */
export interface ExampleDocument {
  id: string;
  text: string;
  grade: number;
}

/** Queries with the largest gains and losses compared with another system. */
export interface Differences {
  metric: string;
  a: string;
  b: string;
  better: Example[];
  worse: Example[];
}

/** Calibration of scores: Platt scaling on half of the queries, measured on the other half. */
export interface CalibrationFigures {
  /** Expected calibration error over bins of equal width. */
  student: { ece: number; brier: number };
  teacher?: { ece: number; brier: number };
  /** Slope of the student's log-odds on the teacher's: over 1, the student exaggerates the teacher's confidence. */
  slope?: number;
  pairs: number;
}

/** Geometry of the embeddings. */
export interface GeometryFigures {
  /** exp of the entropy of the normalised singular values; at most the dimensions. */
  effectiveRank: number;
  /** log of the mean of exp(-2 distance^2) over pairs of documents; lower is more even. */
  uniformity: number;
  /** Mean squared distance of a query to its relevant documents. */
  alignment?: number;
  sampled: number;
  dimensions: number;
}

/** Losses and dev figures over the steps of a training. */
export interface TrainingFigures {
  log: readonly { step: number; loss: number; gradientNorm?: number; learningRate?: number }[];
  evaluations: readonly { step: number; score: number }[];
}

/** Everything that a report shows. */
/** A cascade's quality by the number of documents that its teacher scores per query. */
export interface DeferralFigures {
  /** The rule at every threshold, and deferral of whole queries at random and by an oracle that knows each gain. */
  curve: { pairs: number; quality: number }[];
  random: { pairs: number; quality: number }[];
  oracle: { pairs: number; quality: number }[];
  /** The cascade's operating point. */
  at: { pairs: number; quality: number };
}

/** Everything that a report shows: systems, comparisons, costs, curves and values per query. */
export interface Figures {
  title: string;
  /** Pairs of label and value under the title: data, split, depth. */
  facts: [string, string][];
  /** Notes on choices and limitations. */
  notes: string[];
  systems: SystemFigures[];
  comparisons?: Comparison[];
  fidelity?: Fidelity;
  differences?: Differences;
  calibration?: CalibrationFigures;
  geometry?: GeometryFigures;
  cost?: CostFigures[];
  /** Time of the teacher's re-ranking divided by that of the student's query embedding. */
  speedFactor?: number;
  index?: IndexFigures;
  training?: TrainingFigures;
  deferral?: DeferralFigures;
  /** Quality of the first n dimensions, truncated and re-normalised. */
  matryoshka?: { dimensions: number; value: number }[];
  /** One value per query, in the order of `queryIds`, by system and metric; of a sample where there are many queries. */
  perQuery?: {
    queryIds: string[];
    /** Queries that the sample is of; absent where all are there. */
    of?: number;
    systems: Record<string, Record<string, number[]>>;
  };
}
