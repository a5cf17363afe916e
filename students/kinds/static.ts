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
        order: z
          .enum(orderNames)
          .default('none')
          .describe(
            'how word order is modelled; gate: how much a token counts depends on the token before and the token after',
          ),
        width: count.default(64).describe('columns of what attention, bigrams and convolution add'),
        buckets: count.default(131_072).describe('rows of the table of hashed bigrams'),
        rank: count.default(8).describe('columns of each of the four functions of a token that a gate has'),
      })
      .describe('a table of token vectors instead of a transformer, for the pipeline static-queries'),
  },
  reads: ['embedder', 'seed'],
  pipeline: 'static-queries',
  card: 'It is a table of token vectors. A text without a known token is the zero vector: it scores 0 against everything, and loaders that divide by the length without a guard give NaN for it.',
  describe: (o) => `a static table of token vectors, word order ${o.static.order}`,
  isTable: (o) => o.static.order === 'none' || o.static.order === 'gate',
  async open(o, { embedder, seed }) {
    const { folder, tokens } = await embedder();
    return staticStudent(folder, tokens, { ...o.static, seed, prompts: o.prompts });
  },
});
