/** @file The prompts of a model, as options. */
import { z } from 'zod';

export const prompts = z
  .strictObject({
    query: z.string().optional().describe('before a query, or around it where {text} marks its place'),
    document: z.string().optional().describe('the same of a document'),
  })
  .optional()
  .describe("instructions that texts are encoded with; the model folder's own by default, '' for none");
