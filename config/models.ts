/** @file Options of the models that teach: the teacher and the embedder. */
import { z } from 'zod';
import { formatNames } from '../teachers/services/index.ts';
import { teacherDTypes } from '../teachers/teacher.ts';
import { prompts } from './prompts.ts';

const path = z.string().min(1);
const count = z.int().positive();

const label = z
  .union([z.string().min(1), z.int().nonnegative()])
  .optional()
  .describe("which of a classifier's labels means relevance, by name or place; by default what id2label says");
const output = z.string().min(1).optional().describe("output that holds the scores; 'logits' by default");

const dtype = z
  .enum(teacherDTypes)
  .optional()
  .describe(
    "int8: products in the CPU's integer units; fp16: arithmetic in half precision, on CUDA; each is compared with float32 on a sample of the first pairs or texts; fp32 by default",
  );

/** What a causal language model is asked. */
const promptOptions = {
  template: z
    .string()
    .min(1)
    .optional()
    .describe("the prompt, with {query}, {document} and perhaps {instruction}; by default the folder's or its card's"),
  yes: z.string().min(1).optional().describe('what it answers of a relevant document: one token'),
  no: z.string().min(1).nullable().optional().describe('what it answers of another; null: the logit of yes alone'),
  instruction: z.string().optional().describe('what queries ask for, in prompts that say so'),
};
/** Options of every service. Keys are read from the environment alone. */
const service = z.strictObject({
  kind: z.literal('http').describe('a service that scores or embeds'),
  url: z.string().min(1).describe("address of the service, with or without the protocol's path"),
  model: z.string().min(1).optional().describe('model that the service is asked for'),
  keyVariable: z
    .string()
    .regex(/^[A-Za-z_]\w*$/, 'expected the name of an environment variable, never the key itself')
    .optional()
    .describe('environment variable of the key: TEI_API_KEY, COHERE_API_KEY, JINA_API_KEY, OPENAI_API_KEY by default'),
  truncate: z.boolean().default(true).describe('whether the service cuts long texts (tei)'),
  dimensions: count.optional().describe('columns of embeddings, where the service can shorten them'),
  prompts: z
    .strictObject({
      query: z.string().optional().describe('before a query'),
      document: z.string().optional().describe('before a document'),
    })
    .optional()
    .describe('put before each text'),
  batchSize: count.optional().describe('texts a request; what the service takes by default'),
  concurrency: count.default(4).describe('requests under way at once'),
  requestsPerMinute: z.number().positive().optional().describe('most requests a minute; no limit by default'),
  timeout: z.number().positive().default(60).describe('seconds that an answer may take'),
  retries: z
    .int()
    .nonnegative()
    .default(5)
    .describe('how often a request is repeated that the service could not answer'),
  budget: z
    .strictObject({
      requests: count.optional().describe('most requests in all'),
      texts: count.optional().describe('most texts in all'),
    })
    .optional()
    .describe('where it stops asking; what came is kept'),
});

export const teacher = z
  .discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('cross-encoder').describe('a model that reads query and document together'),
      model: path.describe('folder with onnx/model.onnx and tokenizer.json'),
      queryTokens: count.optional().describe('tokens of a query, special tokens not counted'),
      documentTokens: count.optional().describe('tokens of a document, special tokens not counted'),
      maxLength: count.optional().describe('tokens of a pair in all'),
      dtype,
      prompts,
      label,
      output,
    }),
    z.strictObject({
      kind: z.literal('generative').describe('a causal language model that is asked for yes or no'),
      model: path.describe('folder of a causal language model that answers yes or no: Qwen3-Reranker and its kind'),
      ...promptOptions,
      maxLength: count.optional().describe('tokens of the prompt in all'),
      output,
    }),
    z.strictObject({
      kind: z.literal('dual-encoder').describe('a model that embeds each alone'),
      model: path.describe('folder of a dual-encoder'),
      queryTokens: count
        .optional()
        .describe('tokens of a query, special tokens included; where the model cuts them by default'),
      documentTokens: count
        .optional()
        .describe('tokens of a document, special tokens included; where the model cuts them by default'),
      dtype,
      prompts,
    }),
    z.strictObject({
      kind: z.literal('scores').describe('scores that were stored earlier'),
      files: z
        .strictObject({
          train: path.optional().describe('of the training queries'),
          dev: path.optional().describe('of the dev queries'),
          test: path.optional().describe('of the test queries'),
        })
        .default({})
        .describe('query-id corpus-id score lines by split, plain or gzipped; without any, the scores of the rows'),
    }),
    service.extend({
      format: z.enum(formatNames).describe('protocol of the service'),
      scores: z
        .enum(['logit', 'as-it-is'])
        .optional()
        .describe("of rerankers: the logit of a probability (cohere, jina by default) or the service's number (tei)"),
    }),
  ])
  .describe('scores how well a document matches a query');

const vectorFiles = z
  .union([path, z.array(path).min(1)])
  .describe('.npy, .safetensors, .parquet or .jsonl with a vector for each id; several are read one after the other');
const idFiles = z
  .union([path, z.array(path).min(1)])
  .optional()
  .describe('ids in the order of the vectors, one a line or as a JSON list; found next to the vectors by default');

export const embedder = z
  .discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('dual-encoder').optional().describe('a model folder; the default'),
      model: path.describe('folder of a dual-encoder, or its name on the hub'),
      queryTokens: count.default(64).describe('tokens of a query, special tokens included'),
      documentTokens: count.default(192).describe('tokens of a document, special tokens included'),
      dtype,
      prompts,
    }),
    service.extend({
      format: z.enum(['tei', 'openai-embeddings']).describe('protocol of the service'),
    }),
    z.strictObject({
      kind: z.literal('vectors').describe('vectors that were made elsewhere'),
      files: vectorFiles,
      ids: idFiles,
      queries: z
        .strictObject({ files: vectorFiles, ids: idFiles })
        .optional()
        .describe('vectors of queries, where a loss matches them'),
    }),
  ])
  .describe('a dual-encoder whose embeddings are matched and whose documents may be inherited');

type Described = { kind?: string; model?: string; url?: string; files?: unknown } | undefined;

/** The model folder or hub name that a teacher or embedder is opened from; none where it is a service or a file. */
export const localModel = (t: Described): string | undefined => (t?.kind === 'http' ? undefined : t?.model);

/** How a teacher or embedder is called in texts for people. */
export const calledModel = (t: Described): string =>
  t?.model ?? t?.url ?? (t?.kind === 'vectors' ? String([t.files].flat()[0]) : 'scores of a file');
