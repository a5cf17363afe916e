/** @file What is kept of a finished run of a comparison. */

/** One finished run. */
export interface Outcome {
  group: string;
  variant: string;
  seed: number;
  metrics: Record<string, number>;
  /** Of the encoder as it was, where it was measured. */
  before?: Record<string, number>;
  /** nDCG@10 by width, where the student was trained for prefixes. */
  matryoshka?: { dimensions: number; value: number }[];
  /** nDCG@10 of a student that went on learning, by part of the data, before and after. */
  continued?: Record<string, { values: Record<string, number> }>;
  seconds: number;
  trainSeconds: number;
}
