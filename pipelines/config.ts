/** @file What a run is told: one schema for files, programs, help and editors. */
import { join } from 'node:path';
import { z } from 'zod';
import { InputError, nearest } from '../common/errors.ts';
import { poolings } from '../engine/expressions/pooling.ts';

const path = z.string().min(1);
const count = z.int().positive();
const share = z.number().min(0).max(1);

const data = z
  .strictObject({
    path: path.optional().describe('BEIR folder: corpus.jsonl, queries.jsonl, qrels/*.tsv, plain or gzipped'),
    splits: z
      .strictObject({
        train: z.string().default('train'),
        dev: z.string().nullable().default('dev').describe('for the choice of the best weights; null for none'),
        test: z.string().default('test'),
      })
      .prefault({})
      .describe('names of the judgement files'),
    maxQueries: count.optional().describe('use only so many training queries'),
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
        .describe('query-id corpus-id score lines by split, plain or gzipped'),
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

const student = z
  .strictObject({
    model: path
      .default('')
      .describe("folder of the encoder that the student starts from; where 'fresh' is given, the folder it is made in"),
    fresh: fresh.optional(),
    layers: z.array(z.int().nonnegative()).min(1).optional().describe('layers kept, lowest first; all by default'),
    towers: z
      .enum(['both', 'query'])
      .default('both')
      .describe('query: only queries are encoded, over frozen documents of the embedder'),
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
      .describe("given: those of the teacher's score files"),
    count: count.default(16).describe('candidates a query, the labelled positive included'),
  })
  .describe('which documents the teacher scores for a query');

const selection = z
  .discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('all') }),
    z.strictObject({
      kind: z.literal('hardest'),
      count: count.default(8).describe('negatives kept a query'),
      margin: z.number().optional().describe('drop candidates that the teacher scores above the positive less this'),
    }),
  ])
  .describe('which of the scored candidates are trained on');

const weighting = z
  .discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('uniform') }),
    z.strictObject({ kind: z.literal('confidence'), temperature: z.number().positive().default(1) }),
  ])
  .describe("each query's factor in the loss");

const lossWeight = z.number().positive().default(1);
const loss = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('embedding-matching'),
    weight: lossWeight,
    of: z.enum(['both', 'queries', 'documents']).default('both'),
    distance: z.enum(['l2', 'squared', 'cosine']).default('squared'),
  }),
  z.strictObject({
    kind: z.literal('info-nce'),
    weight: lossWeight,
    temperature: z.number().positive().default(0.05),
    direction: z.enum(['query-to-document', 'both']).default('query-to-document'),
  }),
  z.strictObject({
    kind: z.literal('kl'),
    weight: lossWeight,
    temperature: z.number().positive().default(1),
    studentTemperature: z.number().positive().default(0.05),
  }),
  z.strictObject({ kind: z.literal('margin-mse'), weight: lossWeight, scale: z.number().positive().default(20) }),
]);

const train = z
  .strictObject({
    epochs: z.number().positive().optional(),
    steps: count.optional().describe('in place of epochs'),
    queries: count.default(32).describe('queries a step'),
    candidates: count.default(8).describe('documents a query, the positive and others drawn anew each step'),
    documentTokens: count.optional().describe('tokens of a document in training, where fewer than in evaluation'),
    documentGroups: count.default(2).describe('documents are padded in so many groups of like length'),
    learningRate: z.number().positive().default(2e-4),
    weightDecay: z.number().min(0).default(0.01),
    decayNormsAndBiases: z.boolean().default(false),
    warmupSteps: z.int().nonnegative().default(50),
    finalLearningRate: share.default(0.02).describe('as a share of the learning rate'),
    clipNorm: z.number().positive().nullable().default(1),
    evaluateEvery: count.nullable().default(null).describe('steps between evaluations on the dev split; null for none'),
    devDocuments: count
      .optional()
      .describe('documents that dev queries are searched among, besides their relevant ones; all by default'),
    saveEvery: count.default(100).describe('steps between saved states'),
    spans: count.nullable().default(null).describe('spans of documents matched a step; needs an embedder'),
    provider: z.enum(['auto', 'cpu', 'webgpu', 'cuda']).default('auto'),
    threads: count.optional(),
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

export const configSchema = z.strictObject({
  pipeline: z.enum(['cross-to-dual']).default('cross-to-dual'),
  seed: z.int().nonnegative().default(0),
  output: path.default('runs/student').describe('folder for artefacts, checkpoint and report'),
  cache: path.optional().describe('folder of the store of teacher scores; ~/.cache/onnx-distill by default'),
  data,
  teacher: teacher.optional(),
  embedder: embedder.optional(),
  student,
  candidates: candidates.prefault({}),
  selection: selection.default({ kind: 'all' }),
  weighting: weighting.default({ kind: 'uniform' }),
  losses: z
    .array(loss)
    .min(1)
    .default([
      { kind: 'info-nce', weight: 1, temperature: 0.05, direction: 'query-to-document' },
      { kind: 'kl', weight: 1, temperature: 1, studentTemperature: 0.05 },
    ]),
  train: train.prefault({}),
  evaluate: evaluation.prefault({}),
});

/** A run's options with every default filled in. */
export type Config = z.output<typeof configSchema>;
/** A run's options as a person writes them. */
export type ConfigInput = z.input<typeof configSchema>;
export type LossConfig = z.output<typeof loss>;

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
  if (result.success) return crossCheck(result.data, where);
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

/** What the schema alone cannot say. */
function crossCheck(config: Config, where: string): Config {
  const refuse = (subject: string, remedy: string): never => {
    throw new InputError({ code: 'config.contradiction', subject: `${where}: ${subject}`, remedy });
  };
  if (config.student.fresh) config.student.model ||= join(config.output, 'fresh');
  if (!config.student.model) refuse("'student.model' is missing", "name a model folder, or give 'student.fresh'");
  if (!config.data.path) refuse("'data.path' is missing", 'name a BEIR folder');
  if (config.student.towers === 'query' && !config.embedder)
    refuse(
      "'student.towers: query' needs frozen documents",
      "add an 'embedder' whose documents the query tower searches",
    );
  if (config.losses.some((l) => l.kind === 'embedding-matching') && !config.embedder)
    refuse("a loss matches embeddings and there is no 'embedder'", 'add one, or remove the loss');
  if (config.train.spans && !config.embedder) refuse("'train.spans' needs an 'embedder'", 'add one, or remove it');
  if (config.losses.some((l) => l.kind === 'kl' || l.kind === 'margin-mse') && !config.teacher)
    refuse(
      "a loss follows the teacher's scores and there is no 'teacher'",
      'add one, or train on labels with info-nce alone',
    );
  if (config.candidates.source === 'given' && config.teacher?.kind !== 'scores')
    refuse("'candidates.source: given' needs lists", "use 'teacher.kind: scores'");
  if (config.train.epochs && config.train.steps) refuse("'train.epochs' and 'train.steps' are both given", 'keep one');
  return config;
}
