/** @file A student that is a table of token vectors instead of a transformer. */
import { z } from 'zod';
import { staticStudent } from '../static-encoder.ts';
import { orderNames } from '../static-order.ts';
import { defineStudent } from './kind.ts';

const count = z.int().positive();

/** A query tower over the embedder's documents; its rows start as the embedder's vector of each token alone. */
export const staticTable = defineStudent({
  options: {
    static: z
      .strictObject({
        order: z.enum(orderNames).default('none').describe('how word order is modelled'),
        width: count.default(64).describe('columns of what word order adds'),
        buckets: count.default(131_072).describe('rows of the table of hashed bigrams'),
      })
      .describe('a table of token vectors instead of a transformer, for the pipeline static-queries'),
  },
  reads: ['embedder', 'seed'],
  pipeline: 'static-queries',
  card: 'It is a table of token vectors. A text without a known token is the zero vector: it scores 0 against everything, and loaders that divide by the length without a guard give NaN for it.',
  describe: (o) => `a static table of token vectors, word order ${o.static.order}`,
  isTable: (o) => o.static.order === 'none',
  async open(o, { embedder, seed }) {
    const { folder, tokens } = await embedder();
    return staticStudent(folder, tokens, { ...o.static, seed, prompts: o.prompts });
  },
});
