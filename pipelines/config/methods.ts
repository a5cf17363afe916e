/** @file The options of every selection and weighting in the registries: one without an entry does not compile. */
import { z } from 'zod';
import {
  type CandidateSelection,
  candidateSelections,
  type QuerySelection,
  querySelections,
} from '../../selection/index.ts';
import { type Weighting, weightings } from '../../weighting/index.ts';

const positive = z.number().positive();
const count = z.int().positive();
const studentTemperature = { temperature: positive.default(0.05).describe("divides the student's scores") };
const teacherSureness = {
  temperature: positive.default(1).describe("divides the teacher's scores"),
  power: positive.default(1),
};

const candidateOptions = {
  all: {},
  'margin-balanced': { count: count.default(8).describe('negatives kept a query'), bins: count.default(10) },
  'positive-aware': {
    filter: z.enum(['none', 'absolute', 'margin', 'percentage']).optional(),
    threshold: z.number().optional().describe('of the filter; for logits a margin of 1 to 3'),
    count: count.optional().describe('negatives kept a query'),
    take: z.enum(['hardest', 'softmax']).optional(),
    temperature: positive.optional().describe("divides the teacher's scores in a draw"),
  },
  'top-k': { count: count.default(8).describe('negatives kept a query, the hardest by the teacher') },
} satisfies Record<keyof typeof candidateSelections, z.ZodRawShape>;

const queryOptions = {
  diverse: studentTemperature,
  entropy: studentTemperature,
  'farthest-first': {},
  'gradient-guided': {},
  iwes: {
    ...studentTemperature,
    cap: positive.optional().describe('weights are no larger'),
    floor: positive.optional().describe('probabilities are no smaller'),
  },
  'least-confidence': studentTemperature,
  margin: studentTemperature,
  rad: {
    ...studentTemperature,
    gain: z.enum(['margin', 'entropy', 'least-confidence']).optional(),
    penalty: z.number().min(0).optional().describe('what a wrong answer costs, in gains'),
  },
  random: {},
  tgt: { sigma: positive.optional(), within: z.number().min(0).max(1).optional() },
} satisfies Record<keyof typeof querySelections, z.ZodRawShape>;

const trimmed = {
  noise: z
    .number()
    .min(0)
    .max(1)
    .default(0.2)
    .describe('share of the queries that the teacher is taken to be wrong on'),
  epochs: positive.optional().describe('until that share is left out; a part of one may be given'),
};

const weightingOptions = {
  agreement: {},
  'calibrated-posterior': { ridge: positive.optional(), labelled: z.enum(['relevant', 'posterior']).optional() },
  'co-teaching': trimmed,
  confidence: teacherSureness,
  ensemble: { lambda: positive.optional() },
  entropy: teacherSureness,
  'error-probability': { neighbours: count.optional() },
  reliability: { ridge: positive.optional(), power: positive.optional() },
  'small-loss': trimmed,
  uniform: {},
  'weighted-distillation': { neighbours: count.optional() },
} satisfies Record<keyof typeof weightings, z.ZodRawShape>;

/** What every weighting may be told. */
const weightingCommon = {
  second: z.enum(['bm25', 'none']).default('bm25').describe('an independent second teacher, for those that use one'),
  teachers: z
    .array(z.string().min(1))
    .optional()
    .describe('further cross-encoders, or files of query-id corpus-id score lines, for an ensemble'),
  renew: count
    .nullable()
    .default(null)
    .describe('steps between two renewals with the student of the moment; null for none'),
};
const queryCommon = { budget: count.describe('queries that the teacher is asked about in all') };

/** A discriminated union over a registry's names; its output keeps each kind with its own options. */
function choice<T extends Record<string, z.ZodRawShape>, C extends z.ZodRawShape>(options: T, common: C) {
  type Schemas = {
    [K in keyof T & string]: z.ZodObject<{ kind: z.ZodLiteral<K> } & C & T[K], z.core.$strict>;
  }[keyof T & string];
  const schemas = Object.entries(options).map(([kind, shape]) =>
    z.strictObject({ kind: z.literal(kind), ...common, ...shape }),
  ) as unknown as [Schemas, ...Schemas[]];
  return z.discriminatedUnion('kind', schemas);
}

export const selectionSchema = choice(candidateOptions, {}).describe('which of the scored candidates are trained on');
export const querySelectionSchema = choice(queryOptions, queryCommon).describe(
  'which queries the teacher is asked about, under a budget; all by default',
);
export const weightingSchema = choice(weightingOptions, weightingCommon).describe("each query's factor in the loss");

/** The member of a registry that a config names, with its options. */
function made<M>(registry: Record<string, unknown>, { kind, ...options }: { kind: string }): M {
  return (registry[kind] as (options: object) => M)(options);
}

export const toSelection = (config: z.output<typeof selectionSchema>): CandidateSelection =>
  made(candidateSelections, config);
export const toQuerySelection = (config: z.output<typeof querySelectionSchema>): QuerySelection =>
  made(querySelections, config);
export const toWeighting = (config: z.output<typeof weightingSchema>): Weighting => made(weightings, config);
