/** @file A re-ranker over token vectors that a frozen encoder computes once a document (late interaction). */
import { z } from 'zod';
import { loadStudent } from '../encoder-student.ts';
import { type LateScorerName, lateScorers } from '../late/members.ts';
import { defineStudent } from './kind.ts';

const count = z.int().positive();
const names = Object.keys(lateScorers) as [LateScorerName, ...LateScorerName[]];

/** Its query side is the encoder of `student.model`, its document side the embedder; both are frozen. */
export const multiVector = defineStudent({
  options: {
    multiVector: z
      .strictObject({
        dimensions: count.default(128).describe('numbers of a token vector'),
        tokens: count.default(64).describe("a document's first so many tokens have a vector"),
        queryTokens: count.default(32).describe("a query's first so many tokens have a vector"),
        scorer: z.enum(names).default('max-sim').describe('what makes a score of token vectors'),
        residual: z
          .boolean()
          .default(true)
          .describe("whether the cosine of the encoders' own vectors is added, at a weight that begins at 1"),
      })
      .describe('a re-ranker over cached token vectors of documents, for the pipeline late-interaction'),
    model: z
      .string()
      .default('')
      .describe('folder of the frozen encoder of queries: a query tower of the embedder; the embedder by default'),
  },
  reads: ['folder'],
  pipeline: 'late-interaction',
  card: 'Next to the dual-encoder that finds documents, this folder holds a re-ranker over token vectors (multi-vector.json): `distill index` stores those of the documents, and `distill search` re-ranks by them.',
  completed: (o, _, embedder) => ({ ...o, model: o.model || embedder || '' }),
  refused: (o) =>
    o.model
      ? undefined
      : ["'student.multiVector' has no encoder", "add an 'embedder': a dual-encoder in a folder or on the hub"],
  start: (o) => o.model,
  describe: (o) =>
    `${o.multiVector.scorer} over ${o.multiVector.tokens} token vectors of ${o.multiVector.dimensions} numbers, queries by ${o.model}`,
  parameters: ({ multiVector: { dimensions } }) => dimensions * 1024,
  open: (o) => loadStudent(o.model, { prompts: o.prompts, pooling: o.pooling, normalize: o.normalize }),
});
