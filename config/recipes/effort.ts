/** @file How much work the runs of a chain take: what a GPU does in minutes would take hours on the cores of a CPU. */

import type { EffortName } from '../chain.ts';

/** Sizes of a chain's runs. */
export interface Effort {
  assistant: {
    batchSize: number;
    /** Steps where the data has enough queries for them. */
    steps: number;
    /** Steps at most, where an epoch has more. */
    most: number;
    /** Queries that a model scores at most. */
    asked: number;
    /** Documents that dev queries are searched among, in addition to the relevant ones. */
    devDocuments: number;
    /** Most tokens of a document in a step; by default as many as the student reads. */
    documentTokens?: number | undefined;
  };
  /** Evaluations on dev during a training, in addition to those before and after it. */
  evaluations: number;
  /** Spans of documents that the towers are taught by. */
  spans: number;
  querySteps: number;
  staticSteps: number;
}

/** On a device. */
const device: Effort = {
  assistant: { batchSize: 32, steps: 800, most: 2400, asked: 8000, devDocuments: 3000 },
  evaluations: 8,
  spans: 100_000,
  querySteps: 600,
  staticSteps: 2500,
};

/** On a CPU: for two cores, on which a step of the assistant takes seconds. */
const processor: Effort = {
  assistant: { batchSize: 16, steps: 500, most: 500, asked: 4000, devDocuments: 1500 },
  evaluations: 4,
  spans: 50_000,
  querySteps: 300,
  staticSteps: 1500,
};

/** Documents are cut at this share of their mean length while the assistant trains on a CPU, in steps of a device's blocks. */
const SHARE = 0.75;
const BLOCK = 32;
const LEAST = 64;

/**
 * The sizes of an effort.
 *
 * @param meanTokens of a document, special tokens included; read where the effort is small. Long documents must be read in training,
 *   too: the cut follows the corpus (data/debian: mean 91 tokens, cut at 64; medquad: 151 of at most 192, cut at 128).
 */
export function effortOf(effort: EffortName, meanTokens: number): Effort {
  if (effort === 'large') return device;
  const documentTokens = Math.max(LEAST, BLOCK * Math.round((SHARE * meanTokens) / BLOCK));
  return { ...processor, assistant: { ...processor.assistant, documentTokens } };
}
