/** @file A student whose documents are weights over the vocabulary and whose queries need no inference. */
import { z } from 'zod';
import { sparseStudent } from '../sparse/sparse-student.ts';
import { defineStudent } from './kind.ts';
import { describeLayers, layers } from './model.ts';

/** An encoder with a head to its own word table, and a weight a token for queries. */
export const sparse = defineStudent({
  options: {
    sparse: z
      .strictObject({
        query: z
          .enum(['idf', 'learned'])
          .default('idf')
          .describe('what a token of a query weighs: its inverse document frequency, or a weight trained from it on'),
        columns: z
          .int()
          .min(64)
          .default(2048)
          .describe('tokens of the vocabulary that a training step computes: those of its queries, and a sample'),
      })
      .prefault({})
      .describe('documents as weights over the vocabulary, queries as weights of their tokens without inference'),
    model: z.string().default('').describe('folder of the encoder that the student starts from'),
    layers,
  },
  reads: ['folder', 'documents', 'seed'],
  card: 'Documents are weights over the vocabulary, queries are weights of their tokens: SparseEncoder(FOLDER) of sentence-transformers loads it.',
  refused: (o) =>
    o.model ? undefined : ["'student.model' is missing", 'name the folder of the encoder that it starts from'],
  start: (o) => o.model,
  describe: (o) => `${describeLayers(o)}, sparse, query weights ${o.sparse.query}`,
  open: (o, { documents, seed }) => sparseStudent(o.model, documents(), { ...o, ...o.sparse, seed }),
});
