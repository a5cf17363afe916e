/** @file Options of a run: one schema for files, programs, help and editors. */
import { z } from 'zod';
import { chainSchema } from './chain.ts';
import { continueSchema } from './continue/continue.ts';
import { exportSchema } from './export.ts';
import { lossSchema, matryoshkaSchema } from './losses.ts';
import { querySelectionSchema, selectionSchema, weightingSchema } from './methods.ts';
import { embedder, teacher } from './models.ts';
import { studentSchema } from './student.ts';
import { active, candidates, generate, memory, online, train } from './training.ts';

const path = z.string().min(1);
const count = z.int().positive();
const share = z.number().min(0).max(1);

const column = z.union([z.string().min(1), count]);
export const columns = z
  .strictObject({
    query: column.optional().describe('the text that is searched for'),
    document: column.optional().describe('relevant documents, or documents that labels or scores are of'),
    negatives: z
      .union([column, z.array(column).min(1)])
      .optional()
      .describe('documents that are not relevant'),
    label: column.optional().describe('grades: whole numbers, above 0 relevant; or -1 and 1'),
    scores: z
      .union([column, z.array(column).min(1)])
      .optional()
      .describe("a teacher's scores: one column, or that of the documents and that of the negatives"),
    ignore: z
      .union([column, z.array(column).min(1)])
      .optional()
      .describe('columns that do not matter'),
  })
  .describe(
    'what the columns of rows hold, where their names do not say it; places such as 1 for CSV and TSV without a header',
  );

const data = z
  .strictObject({
    path: path
      .optional()
      .describe(
        'BEIR folder (corpus.jsonl, queries.jsonl, qrels/*.tsv), file of rows (.jsonl, .csv, .tsv, .parquet, .arrow), or folder of train, dev and test files of rows; see docs/data.md',
      ),
    holdOut: z
      .number()
      .min(0)
      .max(0.25)
      .default(0.05)
      .describe('share of the training queries that dev and test each take where rows come without a file for them'),
    columns: columns.optional(),
    splitSeed: z.int().nonnegative().default(0).describe('seed of the choice of these queries'),
    splits: z
      .strictObject({
        train: z.string().default('train').describe('learned from'),
        dev: z.string().nullable().default('dev').describe('chooses the best weights; null for none'),
        test: z.string().default('test').describe('measured with at the end'),
      })
      .prefault({})
      .describe('names of the judgement files'),
    maxQueries: count.optional().describe('use at most this many training queries, drawn at random'),
    labelled: count
      .optional()
      .describe(
        'this many training queries keep their labels, the first ones; the others are scored by the teacher alone',
      ),
    unlabelled: z
      .boolean()
      .default(true)
      .describe('whether queries without a judgement in any split are trained on; the teacher alone scores them'),
  })
  .describe('data for training and evaluation');

const evaluation = z
  .strictObject({
    metrics: z
      .array(z.string())
      .min(1)
      .default(['ndcg@10', 'mrr@10', 'recall@100'])
      .describe('metrics of the report, the first its headline'),
    depth: count.default(100).describe('documents a query that the teacher re-ranks'),
    bm25: z.boolean().default(true).describe('whether BM25 is measured too'),
    teacher: z.boolean().default(true).describe('whether the teacher re-ranks candidates of the test split'),
    before: z.boolean().default(true).describe('whether the student is evaluated before training too'),
    also: z
      .array(z.string())
      .optional()
      .describe(
        'further data sets (paths as data.path) on which the student, its start, BM25 and the hybrid are measured',
      ),
  })
  .describe('what is measured at the end');

const hybrid = z
  .strictObject({
    lexical: z.literal('bm25').default('bm25').describe('the lexical channel'),
    weight: z
      .union([z.literal('auto'), z.number().nonnegative()])
      .default('auto')
      .describe('lambda of cosine + lambda x BM25 / scale; auto fits it on the dev split and drops it without a gain'),
    k1: z.number().nonnegative().default(0.9).describe('how soon repetitions of a term stop counting'),
    b: share.default(0.4).describe("how far a document's length counts"),
  })
  .describe(
    'BM25 combined with the student: one score from both, measured, and saved as lexical.json in the checkpoint',
  );

export const pipelineNames = [
  'active',
  'chain',
  'online',
  'static-queries',
  'cross-to-dual',
  'dual-to-dual',
  'inherit-documents',
  'late-interaction',
] as const;

/** Every option of a run (a zod schema). */
export const configSchema = z.strictObject({
  pipeline: z.enum(pipelineNames).default('cross-to-dual').describe('which pipeline runs'),
  folder: path.optional().describe('folder of modules named as ./name.mjs; that of the file by default'),
  seed: z.int().nonnegative().default(0).describe('of all that is drawn at random'),
  output: path.default('runs/student').describe('folder for artefacts, checkpoint and report'),
  memory: memory.describe('limit that batches of scoring, encoding, training and searching are chosen by, e.g. 4GB'),
  cache: path.optional().describe('folder of the store of teacher scores; ~/.cache/onnx-distill by default'),
  data,
  teacher: teacher.optional(),
  embedder: embedder.optional(),
  student: studentSchema,
  candidates: candidates.prefault({}),
  querySelection: querySelectionSchema.optional(),
  selection: selectionSchema.prefault({ kind: 'all' }),
  weighting: weightingSchema
    .optional()
    .describe(
      "each query's factor in the loss: uniform by default; reliability where some queries have labels and the others learn the teacher's pseudo-labels",
    ),
  losses: z
    .array(lossSchema)
    .min(1)
    .optional()
    .describe(
      'info-nce and kl by default, where there is a teacher; embedding-matching where there is an embedder alone',
    ),
  matryoshka: matryoshkaSchema.optional(),
  generate: generate.optional(),
  active: active.optional(),
  online: online.optional(),
  chain: chainSchema.optional(),
  continue: continueSchema.optional(),
  train: train.prefault({}),
  evaluate: evaluation.prefault({}),
  hybrid: hybrid.optional(),
  export: exportSchema.optional(),
});

type Parsed = z.output<typeof configSchema>;
/** A run's options with every default filled in. */
export interface Config extends Parsed {
  losses: NonNullable<Parsed['losses']>;
  weighting: NonNullable<Parsed['weighting']>;
  student: Parsed['student'] & { towers: 'both' | 'query' };
  train: Parsed['train'] &
    Required<
      Pick<
        Parsed['train'],
        'batchSize' | 'finalLearningRate' | 'learningRate' | 'spans' | 'warmupSteps' | 'weightDecay'
      >
    >;
}
/** A run's options as a person writes them. */
export type ConfigInput = z.input<typeof configSchema>;
export type { Parsed as ParsedConfig };
