/** @file The options of every selection and weighting in the registries: one without an entry does not compile. */
import { z } from 'zod';
import type { LossInput } from '../losses/index.ts';
import {
  type CandidateSelection,
  candidateSelections,
  type QuerySelection,
  querySelections,
} from '../selection/index.ts';
import { type Weighting, weightings } from '../weighting/index.ts';
import { layersOf, type StudentConfig, trainedEncoder } from './student.ts';

const positive = z.number().positive();
const count = z.int().positive();
const studentTemperature = { temperature: positive.default(0.05).describe("divides the student's scores") };
const teacherConfidence = {
  temperature: positive.default(1).describe("divides the teacher's scores"),
  power: positive.default(1).describe('larger numbers trust confident scores more'),
};

const candidateOptions = {
  all: {},
  'margin-balanced': {
    count: count.default(8).describe('negatives kept a query'),
    bins: count.default(10).describe('bins of equal width between the smallest and the largest margin'),
  },
  'positive-aware': {
    filter: z
      .enum(['none', 'absolute', 'margin', 'percentage'])
      .optional()
      .describe(
        "keeps candidates scored below the threshold, below the positive's score less it, or below that share of it",
      ),
    threshold: z.number().optional().describe('of the filter; for logits a margin of 1 to 3'),
    count: count.optional().describe('negatives kept a query'),
    take: z.enum(['hardest', 'softmax']).optional().describe('the highest scores, or drawn by softmax of the scores'),
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
    cap: positive.optional().describe('weights are not larger'),
    floor: positive.optional().describe('probabilities are not smaller'),
  },
  'least-confidence': studentTemperature,
  margin: studentTemperature,
  rad: {
    ...studentTemperature,
    gain: z
      .enum(['margin', 'entropy', 'least-confidence'])
      .optional()
      .describe('what is gained by asking about a query: its uncertainty by this measure'),
    penalty: z.number().min(0).optional().describe('what a wrong answer costs, in gains'),
  },
  random: {},
  tgt: {
    sigma: positive.optional().describe('size of the perturbation relative to the embedding'),
    within: z.number().min(0).max(1).optional().describe('share of the nearest queries that count as known ground'),
  },
} satisfies Record<keyof typeof querySelections, z.ZodRawShape>;

const trimmed = {
  noise: z
    .number()
    .min(0)
    .max(1)
    .default(0.2)
    .describe('share of the queries that the teacher is assumed to be wrong on'),
  epochs: positive.optional().describe('until that share is left out; a part of one may be given'),
};

const ridge = positive.optional().describe("penalty on the regression's coefficients");
const neighbours = count
  .optional()
  .describe('labelled queries that an estimate is the mean of; the square root of their number by default');

const weightingOptions = {
  agreement: {},
  'calibrated-posterior': {
    ridge,
    labelled: z
      .enum(['relevant', 'posterior'])
      .optional()
      .describe('labelled queries take their label, or the estimate as the others do'),
  },
  'co-teaching': trimmed,
  confidence: teacherConfidence,
  ensemble: { lambda: positive.optional().describe('how fast weights fall with disagreement') },
  entropy: teacherConfidence,
  'error-probability': { neighbours },
  reliability: {
    ridge,
    power: positive
      .optional()
      .describe('weights are the probability that the teacher is right, to this power; 1 by default'),
  },
  'small-loss': trimmed,
  uniform: {},
  'weighted-distillation': { neighbours },
} satisfies Record<keyof typeof weightings, z.ZodRawShape>;

/** Options of every weighting. */
const weightingCommon = {
  second: z
    .enum(['bm25', 'none'])
    .default('bm25')
    .describe('an independent second source of scores, for weightings that use one'),
  teachers: z
    .array(z.string().min(1))
    .optional()
    .describe('further cross-encoders, or files of query-id corpus-id score lines, for an ensemble'),
  renew: count.nullable().default(null).describe('steps between two renewals with the current student; null for none'),
};
const queryCommon = { budget: count.describe('queries that the teacher scores in all') };

/** A discriminated union over a registry's names; its output keeps each kind with its own options. */
function choice<T extends Record<string, z.ZodRawShape>, C extends z.ZodRawShape>(options: T, common: C) {
  type Schemas = {
    [K in keyof T & string]: z.ZodObject<{ kind: z.ZodLiteral<K> } & C & T[K], z.core.$strict>;
  }[keyof T & string];
  const schemas = Object.entries(options).map(([kind, shape]) =>
    z.strictObject({ kind: z.literal(kind).describe('which method'), ...common, ...shape }),
  ) as unknown as [Schemas, ...Schemas[]];
  return z.discriminatedUnion('kind', schemas);
}

export const selectionSchema = choice(candidateOptions, {}).describe('which of the scored candidates are trained on');
export const querySelectionSchema = choice(queryOptions, queryCommon).describe(
  'which queries the teacher scores, under a budget; all by default',
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

/**
 * What of `train.daft` and `train.frr` cannot be, with the remedy.
 * @param with.once whether the lists of the training and their scores stay as they are
 */
export function refusedRobust(
  { daft, frr }: { daft?: { model?: string }; frr?: object },
  {
    once,
    teacher,
    needs,
    losses,
    student,
  }: {
    once: boolean;
    teacher: { kind: string } | undefined;
    needs: ReadonlySet<LossInput>;
    losses: readonly { kind: string; draws?: unknown }[];
    student: StudentConfig;
  },
): [subject: string, remedy: string] | undefined {
  const alone =
    "use it without 'candidates.refresh', with 'weighting.kind: uniform' and with another pipeline than active and online";
  if (daft) {
    if (!daft.model && teacher?.kind !== 'cross-encoder')
      return [
        "'train.daft' moves features of a cross-encoder and 'teacher' is not one",
        "name one under 'train.daft.model', or remove it",
      ];
    if (!needs.has('teacher') || !teacher)
      return ["no loss follows the scores that 'train.daft' makes", 'add kl and a teacher, or remove it'];
    if (!once) return ["'train.daft' makes its scores once, for the lists of one training", alone];
  }
  if (!frr) return undefined;
  if (student.towers !== 'both' || trainedEncoder(student) === undefined)
    return ["'train.frr' puts a layer behind a trained encoder of both towers", 'use it there, or remove it'];
  if (layersOf(student) || student.pooling !== undefined || student.normalize !== undefined)
    return [
      "'train.frr' reads features of the whole encoder as its folder says",
      "remove 'student.layers', 'student.pooling' and 'student.normalize', or 'train.frr'",
    ];
  if (!once) return ["'train.frr' trains its layer once, for the lists of one training", alone];
  const own = losses.some((l) => l.kind === 'pair-matching' || l.kind === 'module' || l.draws);
  if (own || needs.has('teacherQueries') || needs.has('teacherDocuments'))
    return ["'train.frr' trains its layer by losses of scores", 'use info-nce and kl, or remove it'];
  return undefined;
}
