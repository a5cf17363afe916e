/** @file Options of the training of a cross-encoder. */
import { z } from 'zod';
import { InputError } from '../common/errors.ts';
import { type Loss, losses } from '../losses/index.ts';
import { freshSchema } from '../students/kinds/fresh.ts';
import type { WeightedLoss } from '../training/step/dual-encoder-step.ts';
import { checkOptions } from './check-options.ts';
import { memory, optimization } from './training.ts';

const path = z.string().min(1);
const count = z.int().positive();

/** A cross-encoder gives logits: they are compared as they are, without the scales that cosines need. */
const OF_LOGITS = { temperature: 1, studentTemperature: 1, scale: 1, shift: 0 };
const ofScores = (kind: keyof typeof losses): Loss => (losses[kind] as (options: object) => Loss)(OF_LOGITS);
/** Losses that need nothing but scores. */
const scoreLosses = (Object.keys(losses) as (keyof typeof losses)[]).filter((kind) =>
  ofScores(kind).needs.every((n) => ['student', 'teacher', 'mask'].includes(n)),
);

/** The losses of a teacher's options as the training graph takes them. */
export const toTeacherLosses = (factors: NonNullable<Parsed['losses']>): WeightedLoss[] =>
  Object.entries(factors).map(([kind, weight]) => ({ loss: ofScores(kind as keyof typeof losses), weight }));

/** Every option of `train-teacher` (a zod schema). */
export const teacherSchema = z.strictObject({
  data: path.describe(
    'BEIR folder (corpus.jsonl, queries.jsonl, qrels/*.tsv), file of rows, or folder of train, dev and test files of rows',
  ),
  split: z.string().default('train').describe('judgements that are learned'),
  dev: z.string().nullable().default('dev').describe('judgements that choose the best weights; null for none'),
  model: path.optional().describe('folder that training starts from: a cross-encoder, or an encoder that gets a head'),
  fresh: freshSchema
    .optional()
    .describe('a new cross-encoder with random weights and a vocabulary of the data, in place of a model'),
  head: z
    .enum(['as-it-is', 'dual-pooling'])
    .default('as-it-is')
    .describe(
      "dual-pooling: the logit becomes the cosine of the pooled vectors of the query's and the document's tokens, for the loss pair-matching",
    ),
  output: path.default('runs/teacher').describe('folder of the trained model'),
  seed: z.int().nonnegative().default(0).describe('of all that is drawn at random'),
  memory: memory.describe('limit that batches of training and scoring are chosen by, e.g. 4GB'),
  queryTokens: count.optional().describe('tokens of a query, special tokens not counted'),
  documentTokens: count.optional().describe('tokens of a document, special tokens not counted'),
  maxLength: count.optional().describe('tokens of a pair in all'),
  candidates: z
    .strictObject({
      source: z
        .enum(['auto', 'hybrid', 'bm25', 'random', 'given'])
        .default('auto')
        .describe(
          'where documents to compare come from; hybrid: cosine of the encoder that training starts from, with BM25; auto: hybrid where that is a dual-encoder, else bm25',
        ),
      count: count.default(24).describe('documents a query, relevant ones included'),
      random: z.int().nonnegative().default(8).describe('how many of them are drawn from the whole corpus'),
      files: z
        .strictObject({
          train: path.describe('of the training queries'),
          dev: path.optional().describe('of the dev queries'),
        })
        .optional()
        .describe("given: 'query-id corpus-id score' lines"),
    })
    .prefault({})
    .describe('which documents the teacher learns to tell apart'),
  targets: z
    .enum(['labels', 'scores'])
    .default('labels')
    .describe('what the logits learn: the judgements, or the scores of the given candidates'),
  losses: z
    .partialRecord(z.enum(scoreLosses), z.number().positive())
    .optional()
    .describe(
      'factor of each loss: kl 1 and bce 0.5, or 0.1 of a fresh model, by default; with labels kl is listwise softmax cross-entropy and bce binary cross-entropy',
    ),
  train: z
    .strictObject({
      ...optimization,
      batchSize: count.default(16).describe('queries a step'),
      candidates: count.default(8).describe('documents a query, a relevant one and others drawn anew each step'),
      groups: count.default(2).describe('pairs are padded in this many groups of similar length'),
      learningRate: z.number().positive().default(5e-5).describe('highest learning rate'),
      weightDecay: z.number().min(0).default(0.01).describe('decoupled weight decay'),
      warmupSteps: z
        .int()
        .nonnegative()
        .optional()
        .describe('steps until the highest learning rate; a tenth of all by default'),
      evaluateEvery: count
        .nullable()
        .optional()
        .describe('steps between evaluations on dev; an eighth of all by default, null for the end alone'),
      devQueries: count.default(200).describe('most dev queries used for the choice'),
    })
    .prefault({})
    .describe('the optimizer, its schedule and the batches'),
});

type Parsed = z.output<typeof teacherSchema>;
/** Options of `train-teacher` with every default filled in. */
export type TeacherConfig = Parsed & { losses: NonNullable<Parsed['losses']> };
/** Options of `train-teacher` as a person writes them. */
export type TeacherConfigInput = z.input<typeof teacherSchema>;

/** @throws InputError for the first mistake */
export function parseTeacherConfig(input: unknown): TeacherConfig {
  const where = "the teacher's options";
  const config = checkOptions(teacherSchema, input, {
    where,
    schemaCommand: 'distill schema train-teacher',
    code: 'config',
    renamed: { 'train.queries': 'train.batchSize' },
  });
  const refuse = (subject: string, remedy: string): never => {
    throw new InputError({ code: 'config.invalid', subject, remedy });
  };
  if (!config.model === !config.fresh) refuse("a teacher starts from either 'model' or 'fresh'", 'give one of the two');
  if (config.candidates.source === 'given' && !config.candidates.files)
    refuse("'candidates.source: given' needs 'candidates.files'", 'name files of query-id corpus-id score lines');
  if (config.targets === 'scores' && config.candidates.source !== 'given')
    refuse("'targets: scores' needs given candidates with scores", "set 'candidates.source: given'");
  if (config.fresh && config.fresh.hidden % config.fresh.heads)
    refuse("'fresh.hidden' is not a multiple of 'fresh.heads'", 'change one of them');
  if (config.train.epochs && config.train.steps) refuse("'train.epochs' and 'train.steps' are both given", 'keep one');
  // Equal shares hold a fresh model longer on its first plateau (measured); the other is the recipe of six sets.
  return { ...config, losses: config.losses ?? { kl: 1, bce: config.fresh ? 0.1 : 0.5 } };
}

/** Steps by default: some 600, and no more than eight epochs. Assumption, from one recipe that served six sets of 111 to 11,484 queries. */
const STEPS = 600;
const EPOCHS = 8;

/** The schedule of a training with everything that follows from the number of its queries. */
export function teacherSchedule({ train }: TeacherConfig, queries: number) {
  const perStep = Math.min(train.batchSize, queries);
  const epoch = Math.max(1, Math.floor(queries / perStep));
  const totalSteps = train.steps ?? (train.epochs ? Math.ceil(train.epochs * epoch) : Math.min(STEPS, EPOCHS * epoch));
  return {
    perStep,
    totalSteps,
    warmupSteps: train.warmupSteps ?? Math.ceil(totalSteps / 10),
    evaluateEvery: train.evaluateEvery === undefined ? Math.ceil(totalSteps / 8) : (train.evaluateEvery ?? totalSteps),
  };
}
