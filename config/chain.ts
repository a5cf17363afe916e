/** @file Options of the chain: those of each of its runs, which replace the recipe's. */
import { z } from 'zod';

const part = (what: string) =>
  z
    .union([z.literal(false), z.record(z.string(), z.unknown())])
    .optional()
    .describe(`${what}; options of that run as \`distill run\` has them, or false to leave it out`);

export const chainSchema = z
  .strictObject({
    assistant: part('a dual-encoder of all layers, distilled from the cross-encoder'),
    query: part("a small query tower over the assistant's documents"),
    static: part("a query tower without a transformer over the assistant's documents"),
  })
  .describe('the runs of `pipeline: chain`, each in a folder of its own under OUTPUT');

/** A run of the chain. */
export type ChainPart = keyof z.output<typeof chainSchema>;
