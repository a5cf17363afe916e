/** @file Options of the training set, of the pipelines with rounds or phases, and of the optimizer. */
import { z } from 'zod';
import { isMemorySize } from '../common/byte-size.ts';
import { halves } from '../engine/passes/to-half.ts';
import { type OptimizerName, optimizers } from '../training/optimizers/index.ts';
import { type StreamMethodName, streamMethods } from '../training/streams/index.ts';

const path = z.string().min(1);
const count = z.int().positive();

export const memory = z
  .union([z.string(), z.number().transform(String)])
  .refine(isMemorySize, { error: 'expected a size such as 4GB or 512MiB' })
  .optional();
const share = z.number().min(0).max(1);

export const candidates = z
  .strictObject({
    source: z
      .enum(['auto', 'bm25', 'embedder', 'given', 'hybrid', 'random', 'student'])
      .default('auto')
      .describe(
        "given: those of the teacher's score files, or those that the rows list; auto: those that the rows list, bm25 where they list no negatives; hybrid: cosine of the embedder, or of the student's start, with BM25",
      ),
    onEmpty: z
      .enum(['stop', 'skip'])
      .default('stop')
      .describe('given: what happens where a judged query has no candidate'),
    count: count
      .default(16)
      .describe('candidates a query, one labelled positive included; further positives are added to them'),
    refresh: z
      .strictObject({
        every: count.describe('steps between two searches'),
        warmup: z
          .int()
          .nonnegative()
          .default(0)
          .describe('steps before the first: an untrained student finds poor negatives'),
        depth: count.default(100).describe('first hits that negatives are drawn from'),
        keep: share.default(0).describe('share of the negatives before that stay'),
      })
      .optional()
      .describe('negatives are found again with the current student'),
    changed: share
      .optional()
      .describe(
        "share of the training queries whose candidates also have changed documents (KAFT): the relevant one negated, and with another's attributes; an irrelevant and an empty one. The teacher scores them",
      ),
  })
  .describe('which documents the teacher scores for a query');

export const generate = z
  .strictObject({
    kind: z
      .enum(['spans', 'sentences', 'mixed', 'titles', 'first-sentences', 'chat'])
      .default('spans')
      .describe(
        'which part of a document serves as a query; or chat: a language model behind an OpenAI-compatible endpoint writes them',
      ),
    count: count.default(100_000).describe('texts in all; titles and first sentences give at most one a document'),
    url: z.string().min(1).optional().describe('chat: base of the endpoint, e.g. http://127.0.0.1:11434/v1'),
    model: z.string().min(1).optional().describe('chat: model that the endpoint is asked for'),
    each: count.default(3).describe('chat: queries a document'),
    prompt: z
      .string()
      .refine((p) => p.includes('{document}'), { error: 'expected {document} where the text stands' })
      .optional()
      .describe('chat: what is asked, with {document}, {count} and perhaps {examples}; see docs/running.md'),
    examples: z
      .int()
      .nonnegative()
      .default(5)
      .describe('chat: training queries that are shown, so that written ones look like them'),
    temperature: z.number().nonnegative().default(0.7).describe('chat: sampling temperature'),
    budget: z
      .strictObject({
        calls: count.optional().describe('most calls of one run'),
        tokens: count.optional().describe('most tokens of one run, as the endpoint counts them'),
      })
      .optional()
      .describe('chat: where it stops asking; what came is kept'),
    concurrency: count.default(4).describe('chat: requests under way at once'),
    best: count
      .default(3)
      .describe("chat: a query is kept where its document is among this many of the teacher's best candidates"),
    tokens: z
      .tuple([count, count])
      .default([5, 13])
      .describe('tokens of a span, from and to; longer titles and sentences are cut to the second'),
    score: z
      .boolean()
      .default(false)
      .describe(
        'whether candidates are found for each, scored where a loss asks for that, so that every loss without labels sees them too',
      ),
  })
  .describe('queries generated from the documents, where training queries are few');

export const active = z
  .strictObject({
    rounds: count.default(4).describe('how often queries are chosen, scored and trained on'),
    restart: z.boolean().default(true).describe('whether each round trains from the beginning'),
  })
  .describe(
    'rounds of choosing queries, asking the teacher about them and training; the budget stands under querySelection',
  );

export const online = z
  .strictObject({
    teachers: z
      .array(path)
      .min(1)
      .describe('earlier checkpoints of the teacher, first to last; the teacher itself ends them'),
    share: share.default(0.5).describe('of the steps, how many the earlier checkpoints teach in all'),
  })
  .describe('a sequence of teacher checkpoints that the student follows');

/** What the training of a student and of a teacher have in common. */
export const optimization = {
  epochs: z.number().positive().optional().describe('passes over the training queries; a part of one may be given'),
  steps: count.optional().describe('optimizer steps, in place of epochs'),
  finalLearningRate: share.default(0.02).describe('learning rate of the last step, as a share of the highest'),
  clipNorm: z.number().positive().nullable().default(1).describe('largest norm of the gradient; null for no limit'),
  saveEvery: count.default(100).describe('steps between saved states'),
  provider: z
    .enum(['auto', 'cpu', 'webgpu', 'cuda'])
    .default('auto')
    .describe('where training, scoring and encoding compute; auto takes what multiplies fastest here'),
  threads: count.optional().describe('CPU threads; all cores by default'),
  tf32: z
    .boolean()
    .default(false)
    .describe('whether cuda multiplies with factors rounded to 10 bits (TF32): faster, losses differ by about 5e-4'),
  onNonFinite: z
    .enum(['stop', 'skip'])
    .default('stop')
    .describe('whether a step whose loss or gradient is not finite ends the training, or is left out and counted'),
};

export const train = z
  .strictObject({
    ...optimization,
    precision: z
      .enum(['float32', ...halves])
      .default('float32')
      .describe(
        'cuda: type of activations and their gradients, up to the pooled vectors; weights, moments and losses are float32. float16 scales the loss by itself',
      ),
    batchSize: count.optional().describe('queries a step; 32, or 64 of a static tower'),
    topics: z
      .strictObject({
        clusters: count.describe('of the training queries, by the embedder'),
        perBatch: count.default(1).describe('topics that a batch is drawn from; queries a step are a multiple of it'),
      })
      .optional()
      .describe('batches of similar queries, so that documents of the other queries are hard negatives'),
    order: z
      .enum(['random', 'stream'])
      .optional()
      .describe(
        'random, the default: each epoch is a new random order of the training queries; stream: see train.stream',
      ),
    stream: z
      .strictObject({
        by: z
          .union([
            z.string().min(1),
            z.strictObject({ topics: count.describe('clusters of the embedder, one after another') }),
          ])
          .optional()
          .describe(
            'what orders the training queries: a field of queries.jsonl (numbers, dates as 2024-03-31, or names of topics), or topics; the order of the file by default',
          ),
        replay: z
          .enum(Object.keys(streamMethods) as [StreamMethodName, ...StreamMethodName[]])
          .default('shuffle')
          .describe(
            'shuffle: drawn at random from a buffer; reverse: each buffer from its end; introspective: batches that end at the examples with the largest losses, in reverse; in-order: as they arrive',
          ),
        buffer: count.default(2048).describe('examples in the buffer'),
        gap: z.int().nonnegative().default(0).describe('reverse: examples left out after each buffer'),
        surprising: share
          .default(0.7)
          .describe('introspective: share of batches that end at an example with a large loss; the others are random'),
      })
      .optional()
      .describe('order: stream: training queries in the order of arrival, and what is done against forgetting'),
    candidates: count.default(8).describe('documents a query, the positive and others drawn anew each step'),
    documentTokens: count.optional().describe('tokens of a document in training, where fewer than in evaluation'),
    groups: count
      .optional()
      .describe('texts of a step are encoded in this many groups of similar length; 4 by default'),
    accumulate: count.default(1).describe('batches whose gradients make one step together'),
    gradCacheChunk: count
      .optional()
      .describe('texts encoded at a time, twice (GradCache), so that memory does not grow with the batch'),
    freeze: z
      .array(z.union([z.literal('embeddings'), z.number().int()]))
      .optional()
      .describe(
        'parts of the encoder that are not trained: embeddings, and layers by their numbers from 0 after any cut (-1 is the last)',
      ),
    exits: z
      .array(count)
      .min(1)
      .optional()
      .describe(
        'numbers of layers, from 1 after any cut, after which a query tower gives a usable embedding too; every loss is its mean over these and the last layer, and the checkpoint has a file a depth',
      ),
    dropout: z.number().min(0).max(0.9).default(0).describe('share of activations dropped in training'),
    documentGroups: count.default(2).describe('documents are padded in this many groups of similar length'),
    optimizer: z
      .enum(Object.keys(optimizers) as [OptimizerName, ...OptimizerName[]])
      .default('adamw')
      .describe('muon: momentum made orthogonal for hidden matrices, AdamW for the rest; see docs/methods.md'),
    learningRate: z
      .number()
      .positive()
      .optional()
      .describe(
        'highest learning rate; 2e-4, or 3e-3 for a static tower; lion, sgd, clipped-sgd and locoprop have no default',
      ),
    finalLearningRate: share
      .optional()
      .describe('learning rate of the last step, as a share of the highest: 0.02, or 1 for schedule-free'),
    weightDecay: z.number().min(0).optional().describe('decoupled weight decay; 0.01, or 0 for a static tower'),
    decayNormsAndBiases: z
      .boolean()
      .default(false)
      .describe('whether weight decay applies to normalisation weights and biases'),
    warmupSteps: z
      .int()
      .nonnegative()
      .optional()
      .describe('steps until the highest learning rate; 50, or 100 for a static tower'),
    evaluateEvery: count.nullable().default(null).describe('steps between evaluations on the dev split; null for none'),
    devDocuments: count
      .optional()
      .describe('documents that are searched for dev queries, in addition to their relevant ones; all by default'),
    spans: count
      .nullable()
      .optional()
      .describe('generated texts matched to the embedder a step, see generate; none, or 256 for a static tower'),
    sampledDocuments: count
      .optional()
      .describe(
        'frozen documents drawn at random in each step in addition to the candidates, for losses over all documents of the step (in-batch-kl)',
      ),
    lexical: z
      .number()
      .positive()
      .optional()
      .describe(
        "weight with which BM25 / scale is added to the student's scores in the losses, as `hybrid` adds it in a search: the student learns what BM25 does not find; scale is the mean of the training queries' best BM25 score",
      ),
    average: z
      .union([z.array(z.number().gt(0).lt(1)).min(1), z.number().gt(0).lt(1)])
      .optional()
      .describe(
        'shares of the trained weights in a mean with those before training; the best share is chosen on the dev split, the trained weights alone among them; a single number is that share, whatever dev says',
      ),
    onWeakTeacher: z
      .enum(['warn', 'labels'])
      .default('warn')
      .describe(
        'what follows where the teacher ranks dev queries no better than the encoder as it was: a warning, or also that its scores count for nothing where labels teach; a chain has labels, unless the dev queries are generated',
      ),
    daft: z
      .strictObject({
        model: path
          .optional()
          .describe("folder of the cross-encoder whose features are moved; the teacher's by default"),
        epsilon: z.number().nonnegative().default(1).describe('how far features are moved, in Euclidean distance'),
        steps: count.default(50).describe('steps of Adam over all lists'),
        learningRate: z.number().positive().default(1e-3).describe('of the last layer'),
      })
      .optional()
      .describe(
        'DAFT: the last layer of the cross-encoder is trained on features moved against it; steps learn the scores of features as they are and of moved ones in turn',
      ),
    frr: z
      .strictObject({
        weight: z.number().nonnegative().default(1).describe('of the squared distance of reconstructed features'),
        anchors: count.default(1024).describe('documents whose scores the features are reconstructed from'),
        steps: count.default(200).describe('steps of the linear layer'),
        learningRate: z.number().positive().default(1e-3).describe('of the linear layer'),
      })
      .optional()
      .describe(
        'FRR: first a linear layer alone behind the encoder, from whose scores the features can be reconstructed; then the encoder under it',
      ),
    pseudoLabels: z
      .boolean()
      .default(false)
      .describe(
        "whether a query without a label takes the teacher's best candidate for its positive, or the best of the soft labels that the weighting makes",
      ),
  })
  .describe('the optimizer, its schedule and the batches');

/**
 * What of the options of a stream contradicts others, as a subject and a remedy.
 * @param compares whether some loss compares a query with documents
 * @param embedder whether there is one
 */
export function* wrongStream(
  { order, stream, topics }: z.output<typeof train>,
  compares: boolean,
  embedder: boolean,
): Generator<[subject: string, remedy: string]> {
  if (stream && order !== 'stream')
    yield ["'train.stream' is read with 'train.order: stream' alone", 'set it, or remove train.stream'];
  if (order !== 'stream') return;
  if (topics)
    yield ["'train.topics' makes batches in an order of its own and 'train.order' is 'stream'", 'remove one of them'];
  if (!stream) return;
  const { by, replay, gap } = stream;
  if (typeof by === 'object' && !embedder)
    yield ["'train.stream.by.topics' clusters embeddings and there is no 'embedder'", 'add one, or name a field'];
  if (gap && replay !== 'reverse')
    yield [`'train.stream.gap' is not read by 'replay: ${replay}'`, "use 'replay: reverse', or remove it"];
  if (replay === 'introspective' && !compares)
    yield [
      "'train.stream.replay: introspective' follows how well each positive is found and no loss compares documents",
      'add info-nce or kl, or choose another replay',
    ];
}
