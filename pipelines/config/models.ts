/** @file Options of the models that teach: the teacher and the embedder. */
import { z } from 'zod';

const path = z.string().min(1);
const count = z.int().positive();

const label = z
  .union([z.string().min(1), z.int().nonnegative()])
  .optional()
  .describe("which of a classifier's labels means relevance, by name or place; by default what id2label says");
const output = z.string().min(1).optional().describe("output that holds the scores; 'logits' by default");

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

export const teacher = z
  .discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('cross-encoder').describe('a model that reads query and document together'),
      model: path.describe('folder with onnx/model.onnx and tokenizer.json'),
      queryTokens: count.optional().describe('tokens of a query, special tokens not counted'),
      documentTokens: count.optional().describe('tokens of a document, special tokens not counted'),
      maxLength: count.optional().describe('tokens of a pair in all'),
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
      queryTokens: count.optional().describe('tokens of a query, special tokens included; as the student by default'),
      documentTokens: count
        .optional()
        .describe('tokens of a document, special tokens included; as the student by default'),
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
  .describe('scores how well a document matches a query');

export const embedder = z
  .strictObject({
    model: path.describe('folder of a dual-encoder'),
    queryTokens: count.default(64).describe('tokens of a query, special tokens included'),
    documentTokens: count.default(192).describe('tokens of a document, special tokens included'),
  })
  .describe('a dual-encoder whose embeddings are matched and whose documents may be inherited');
