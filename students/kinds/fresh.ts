/** @file A student that is a new transformer with random weights and a vocabulary of the data. */
import { join } from 'node:path';
import { z } from 'zod';
import { freshModel } from '../../models/new-model.ts';
import { architectureSchema } from '../architectures/index.ts';
import { loadStudent } from '../encoder-student.ts';
import { defineStudent } from './kind.ts';
import { describeLayers, layers } from './model.ts';

const count = z.int().positive();

/** Options of a new encoder; those of a new teacher are the same. */
export const freshSchema = z
  .strictObject({
    vocabulary: count.default(8192).describe('largest size of the WordPiece vocabulary learned from the data'),
    hidden: count.default(128).describe('width of the token vectors; a multiple of heads'),
    layers: count.default(2).describe('number of transformer layers'),
    heads: count.default(4).describe('attention heads of a layer'),
    intermediate: count.optional().describe('width of the feed-forward network; 4 x hidden by default'),
    maxLength: count.default(256).describe('positions: the longest text in tokens'),
  })
  .describe('a new model with random weights and a vocabulary of the data');

/** A BERT of the given size. */
export const fresh = defineStudent({
  options: {
    fresh: freshSchema,
    model: z.string().default('').describe('folder that the new encoder is made in; OUTPUT/fresh by default'),
    layers,
    architecture: architectureSchema,
  },
  reads: ['texts', 'seed'],
  completed: (o, output) => ({ ...o, model: o.model || join(output, 'fresh') }),
  refused({ fresh: { hidden, heads } }, { dimensions = 0 }) {
    if (hidden % heads)
      return [
        `'student.fresh.hidden: ${hidden}' is not a multiple of 'student.fresh.heads: ${heads}'`,
        'change one of them',
      ];
    if (dimensions > hidden)
      return [
        `'export.dimensions: ${dimensions}' is more than 'student.fresh.hidden: ${hidden}'`,
        'choose fewer, or leave it out',
      ];
    return undefined;
  },
  start: (o) => o.model,
  describe: describeLayers,
  parameters: ({ fresh: { hidden, vocabulary, layers: depth } }) => hidden * (vocabulary + 12 * depth * hidden),
  async open(o, { texts, seed }) {
    await freshModel(o.model, texts(), { ...o.fresh, seed });
    return loadStudent(o.model, o);
  },
});
