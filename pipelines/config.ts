/** @file What a run is told: one schema for files, programs, help and editors. */
import { z } from 'zod';
import { InputError, nearest } from '../common/errors.ts';
import { isMemorySize } from '../common/memory.ts';
import { poolings } from '../engine/expressions/pooling.ts';
import { orderNames } from '../students/static-order.ts';
import { completed } from './config-check.ts';
import { queriesSchema, selectionSchema, weightingSchema } from './config-choices.ts';
import { lossSchema, matryoshkaSchema } from './config-losses.ts';
import { exportSchema } from './export-options.ts';

const path = z.string().min(1);
const count = z.int().positive();
const share = z.number().min(0).max(1);

const data = z
  .strictObject({
    path: path
      .optional()
      .describe(
        'BEIR folder (corpus.jsonl, queries.jsonl, qrels/*.tsv), file of rows (.jsonl, .csv, .tsv, .parquet), or folder of train, dev and test files of rows',
      ),
    holdOut: z
      .number()
      .min(0)
      .max(0.25)
      .default(0.05)
      .describe('share of the training queries that dev and test each take where rows come without a file for them'),
    splitSeed: z.int().nonnegative().default(0).describe('which queries these are'),
    splits: z
      .strictObject({
        train: z.string().default('train'),
        dev: z.string().nullable().default('dev').describe('for the choice of the best weights; null for none'),
        test: z.string().default('test'),
      })
      .prefault({})
      .describe('names of the judgement files'),
    maxQueries: count.optional().describe('use only so many training queries'),
    labelled: count
      .optional()
      .describe('only the first so many training queries keep their labels; the teacher alone speaks for the others'),
    unlabelled: z
      .boolean()
      .default(true)
      .describe('whether queries without a judgement in any split are trained on: the teacher alone speaks for them'),
  })
  .describe('what is trained on and evaluated with');

const teacher = z
  .discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('cross-encoder'),
      model: path.describe('folder with onnx/model.onnx and tokenizer.json'),
      queryTokens: count.optional().describe('tokens of a query, special tokens not counted'),
      documentTokens: count.optional().describe('tokens of a document, special tokens not counted'),
      maxLength: count.optional().describe('tokens of a pair in all'),
    }),
    z.strictObject({
      kind: z.literal('dual-encoder'),
      model: path,
      queryTokens: count.optional(),
      documentTokens: count.optional(),
    }),
    z.strictObject({
      kind: z.literal('scores'),
      files: z
        .strictObject({ train: path.optional(), dev: path.optional(), test: path.optional() })
        .default({})
        .describe('query-id corpus-id score lines by split, plain or gzipped; without any, the scores of the rows'),
    }),
  ])
  .describe('who says how well a document matches a query');

const embedder = z
  .strictObject({
    model: path.describe('folder of a dual-encoder'),
    queryTokens: count.default(64).describe('tokens of a query, special tokens included'),
    documentTokens: count.default(192).describe('tokens of a document, special tokens included'),
  })
  .describe('a dual-encoder whose embeddings are matched and whose documents may be inherited');

const fresh = z
  .strictObject({
    vocabulary: count.default(8192).describe('most tokens of the WordPiece vocabulary made of the data'),
    hidden: count.default(128).describe('width'),
    layers: count.default(2),
    heads: count.default(4),
    intermediate: count.optional().describe('width between the two halves of a layer; 4 x hidden by default'),
    maxLength: count.default(256).describe('positions: the longest text in tokens'),
  })
  .describe('a new encoder with random weights, made under the output folder');

const staticTower = z
  .strictObject({
    order: z.enum(orderNames).default('none').describe('what is known of word order'),
    width: count.default(64).describe('columns of what word order adds'),
    buckets: count.default(131_072).describe('rows of the table of hashed bigrams'),
  })
  .describe('a table in place of a transformer, for the pipeline static-queries');

const student = z
  .strictObject({
    model: z
      .string()
      .default('')
      .describe("folder of the encoder that the student starts from; where 'fresh' is given, the folder it is made in"),
    fresh: fresh.optional(),
    static: staticTower.optional(),
    layers: z.array(z.int().nonnegative()).min(1).optional().describe('layers kept, lowest first; all by default'),
    towers: z
      .enum(['both', 'query'])
      .optional()
      .describe(
        'query: only queries are encoded, over frozen documents of the embedder; as the pipeline says by default',
      ),
    pooling: z.enum(poolings).optional().describe("as the model's folder says by default"),
    normalize: z.boolean().optional(),
    queryTokens: count.default(64).describe('tokens of a query, special tokens included'),
    documentTokens: count.default(192).describe('tokens of a document, special tokens included'),
  })
  .describe('what is trained');

const candidates = z
  .strictObject({
    source: z
      .enum(['bm25', 'embedder', 'given', 'random', 'student'])
      .default('bm25')
      .describe("given: those of the teacher's score files, or those that the rows list"),
    onEmpty: z
      .enum(['stop', 'skip'])
      .default('stop')
      .describe('given: what happens where a judged query has no candidate'),
    count: count.default(16).describe('candidates a query, the labelled positive included'),
    refresh: z
      .strictObject({
        every: count.describe('steps between two searches'),
        warmup: z.int().nonnegative().default(0).describe('steps before the first: a raw student finds poor negatives'),
        depth: count.default(100).describe('first hits that negatives are drawn from'),
        keep: share.default(0).describe('share of the negatives before that stay'),
      })
      .optional()
      .describe('negatives are found again with the student of the moment'),
  })
  .describe('which documents the teacher scores for a query');

const generate = z
  .strictObject({
    kind: z
      .enum(['spans', 'sentences', 'mixed', 'titles', 'first-sentences'])
      .default('spans')
      .describe('what of a document stands for a query; no generator is needed'),
    count: count.default(100_000).describe('texts in all; titles and first sentences give at most one a document'),
    tokens: z
      .tuple([count, count])
      .default([5, 13])
      .describe('tokens of a span, from and to; longer titles and sentences are cut to the second'),
    score: z
      .boolean()
      .default(false)
      .describe('whether the teacher scores candidates of each, so that every loss without labels sees them too'),
  })
  .describe('queries made of the documents, for regions that the training queries leave sparse');

const active = z
  .strictObject({
    rounds: count.default(4),
    restart: z.boolean().default(true).describe('whether each round trains from the beginning'),
  })
  .describe('rounds of choosing queries, asking the teacher about them and training; the budget stands under queries');

const online = z
  .strictObject({
    teachers: z
      .array(path)
      .min(1)
      .describe('earlier checkpoints of the teacher, first to last; the teacher itself ends them'),
    share: share.default(0.5).describe('of the steps, how many the earlier checkpoints teach in all'),
  })
  .describe('a sequence of teacher checkpoints that the student follows');

const train = z
  .strictObject({
    epochs: z.number().positive().optional(),
    steps: count.optional().describe('in place of epochs'),
    queries: count.optional().describe('queries a step; 32, or 64 of a static tower'),
    topics: z
      .strictObject({
        clusters: count.describe('of the training queries, by the embedder'),
        perBatch: count.default(1).describe('topics that a batch is drawn from; queries a step are a multiple of it'),
      })
      .optional()
      .describe('batches of like queries, so that the other queries documents are hard negatives'),
    candidates: count.default(8).describe('documents a query, the positive and others drawn anew each step'),
    documentTokens: count.optional().describe('tokens of a document in training, where fewer than in evaluation'),
    groups: count.optional().describe('texts of a step are encoded in so many groups of like length; 4 by default'),
    accumulate: count.default(1).describe('batches whose gradients make one step together'),
    gradCacheChunk: count
      .optional()
      .describe('texts encoded at a time, twice (GradCache), so that memory does not grow with the batch'),
    dropout: z.number().min(0).max(0.9).default(0).describe('share of activations dropped in training'),
    documentGroups: count.default(2).describe('documents are padded in so many groups of like length'),
    learningRate: z.number().positive().optional().describe('2e-4, or 3e-3 for a static tower'),
    weightDecay: z.number().min(0).optional().describe('0.01, or 0 for a static tower'),
    decayNormsAndBiases: z.boolean().default(false),
    warmupSteps: z.int().nonnegative().optional().describe('50, or 100 for a static tower'),
    finalLearningRate: share.default(0.02).describe('as a share of the learning rate'),
    clipNorm: z.number().positive().nullable().default(1),
    evaluateEvery: count.nullable().default(null).describe('steps between evaluations on the dev split; null for none'),
    devDocuments: count
      .optional()
      .describe('documents that dev queries are searched among, besides their relevant ones; all by default'),
    saveEvery: count.default(100).describe('steps between saved states'),
    spans: count
      .nullable()
      .optional()
      .describe('generated texts matched to the embedder a step, see generate; none, or 256 for a static tower'),
    provider: z
      .enum(['auto', 'cpu', 'webgpu', 'cuda'])
      .default('auto')
      .describe('where training, teachers and encoding compute; auto takes what multiplies fastest here'),
    threads: count.optional(),
    pseudoLabels: z
      .boolean()
      .default(false)
      .describe(
        "whether a query without a label takes the teacher's best candidate for its positive, or the best of the soft labels that the weighting makes",
      ),
    onNonFinite: z.enum(['stop', 'skip']).default('stop'),
  })
  .describe('the optimizer, its schedule and the batches');

const evaluation = z
  .strictObject({
    metrics: z.array(z.string()).min(1).default(['ndcg@10', 'mrr@10', 'recall@100']),
    depth: count.default(100).describe('documents a query that the teacher re-ranks'),
    bm25: z.boolean().default(true),
    teacher: z.boolean().default(true).describe('whether the teacher re-ranks candidates of the test split'),
    before: z.boolean().default(true).describe('whether the student is evaluated before training too'),
  })
  .describe('what is measured at the end');

export const pipelineNames = [
  'active',
  'online',
  'static-queries',
  'cross-to-dual',
  'dual-to-dual',
  'inherit-documents',
] as const;

export const configSchema = z.strictObject({
  pipeline: z.enum(pipelineNames).default('cross-to-dual').describe('which job is done'),
  folder: path.optional().describe('where modules named as ./name.mjs lie; the folder of the file by default'),
  seed: z.int().nonnegative().default(0),
  output: path.default('runs/student').describe('folder for artefacts, checkpoint and report'),
  memory: z
    .union([z.string(), z.number().transform(String)])
    .refine(isMemorySize, { error: 'expected a size such as 4GB or 512MiB' })
    .optional()
    .describe('limit that batches of scoring, encoding, training and searching are chosen by, e.g. 4GB'),
  cache: path.optional().describe('folder of the store of teacher scores; ~/.cache/onnx-distill by default'),
  data,
  teacher: teacher.optional(),
  embedder: embedder.optional(),
  student,
  candidates: candidates.prefault({}),
  queries: queriesSchema.optional(),
  selection: selectionSchema.prefault({ kind: 'all' }),
  weighting: weightingSchema.prefault({ kind: 'uniform' }),
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
  train: train.prefault({}),
  evaluate: evaluation.prefault({}),
  export: exportSchema.optional(),
});

type Parsed = z.output<typeof configSchema>;
/** A run's options with every default filled in. */
export interface Config extends Parsed {
  losses: NonNullable<Parsed['losses']>;
  student: Parsed['student'] & { towers: 'both' | 'query' };
  train: Parsed['train'] &
    Required<Pick<Parsed['train'], 'learningRate' | 'queries' | 'spans' | 'warmupSteps' | 'weightDecay'>>;
}
/** A run's options as a person writes them. */
export type ConfigInput = z.input<typeof configSchema>;
export type { Parsed as ParsedConfig };

/**
 * Checks options and fills in defaults.
 * @param where what messages call the source, e.g. the file's name
 * @param lineOf the line of a key in the file, where it comes from one
 * @throws InputError for the first mistake: key, what was expected, what was received, the nearest known key
 */
export function parseConfig(
  input: unknown,
  where = 'the config',
  lineOf?: (path: readonly PropertyKey[]) => number | undefined,
): Config {
  const result = configSchema.safeParse(input);
  if (result.success) return completed(result.data, where);
  const issue = result.error.issues[0];
  const keys = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]] : issue.path;
  const line = lineOf?.(keys);
  const subject = `${where}${line ? ` line ${line}` : ''}: '${keys.join('.')}'`;
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(issue.path);
    const near = nearest(issue.keys[0], known);
    throw new InputError({
      code: 'config.unknown-key',
      subject: `${subject} is no known key`,
      remedy: near ? `did you mean '${near}'?` : `known here are ${known.join(', ')}`,
    });
  }
  const received = keys.reduce<unknown>((v, k) => (v as Record<PropertyKey, unknown> | undefined)?.[k], input);
  throw new InputError({
    code: 'config.invalid',
    subject: `${subject} ${issue.message
      .replace(/^Invalid input: /, '')
      .replace(/^Invalid/, 'is invalid')
      .replace(/^expected (.*), received undefined$/, 'is missing: $1 is expected')
      .replace(/^expected (.*), received (.*)$/, 'is $2 where $1 is expected')}`,
    received: received === undefined ? undefined : JSON.stringify(received)?.slice(0, 80),
    remedy: 'mend it; `distill schema` prints what is possible',
  });
}

/** Keys that the schema knows at a place, for suggestions. */
function knownKeys(at: readonly PropertyKey[]): string[] {
  interface Node {
    properties?: Record<string, Node>;
    items?: Node;
    anyOf?: Node[];
    oneOf?: Node[];
  }
  let nodes = [z.toJSONSchema(configSchema, { io: 'input' }) as Node];
  const open = (n: Node): Node[] =>
    [n, ...(n.anyOf ?? []), ...(n.oneOf ?? [])].flatMap((m) => (m === n ? [m] : open(m)));
  for (const key of at)
    nodes = nodes
      .flatMap(open)
      .flatMap((n) => (typeof key === 'number' ? (n.items ? [n.items] : []) : (n.properties?.[String(key)] ?? [])));
  return [...new Set(nodes.flatMap(open).flatMap((n) => Object.keys(n.properties ?? {})))];
}
