/** @file Options of the models that teach: the teacher and the embedder. */
import { z } from 'zod';
import { prompts } from './prompts.ts';

const path = z.string().min(1);
const count = z.int().positive();

export const teacher = z
  .discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('cross-encoder').describe('a model that reads query and document together'),
      model: path.describe('folder with onnx/model.onnx and tokenizer.json'),
      queryTokens: count.optional().describe('tokens of a query, special tokens not counted'),
      documentTokens: count.optional().describe('tokens of a document, special tokens not counted'),
      maxLength: count.optional().describe('tokens of a pair in all'),
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
  ])
  .describe('who says how well a document matches a query');

export const embedder = z
  .strictObject({
    model: path.describe('folder of a dual-encoder'),
    queryTokens: count.default(64).describe('tokens of a query, special tokens included'),
    documentTokens: count.default(192).describe('tokens of a document, special tokens included'),
    prompts,
  })
  .describe('a dual-encoder whose embeddings are matched and whose documents may be inherited');
