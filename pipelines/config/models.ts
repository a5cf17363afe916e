/** @file What a config says of models: who teaches, whose embeddings are matched, what is trained. */
import { z } from 'zod';
import { poolings } from '../../engine/expressions/pooling.ts';
import { orderNames } from '../../students/static-order.ts';

const path = z.string().min(1);
const count = z.int().positive();

export const teacher = z
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

export const embedder = z
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

export const student = z
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
