/** @file Options of the chain: those of each of its runs, which replace the recipe's. */
import { z } from 'zod';

const part = (what: string) =>
  z
    .union([z.literal(false), z.record(z.string(), z.unknown())])
    .optional()
    .describe(`${what}; options of that run as \`distill run\` has them, or false to leave it out`);

const parts = {
  assistant: part('a dual-encoder of all layers, distilled from the cross-encoder'),
  query: part("a small query tower over the assistant's documents"),
  static: part("a query tower without a transformer over the assistant's documents"),
};

/** How much work the runs take. */
const EFFORTS = ['small', 'large'] as const;
export type EffortName = (typeof EFFORTS)[number];

export const chainSchema = z
  .strictObject({
    ...parts,
    effort: z
      .enum(EFFORTS)
      .optional()
      .describe('steps, batches and spans of the recipes: small on a CPU and large on a device by default'),
  })
  .describe('the runs of `pipeline: chain`, each in a folder of its own under OUTPUT');

/** A run of the chain. */
export type ChainPart = keyof typeof parts;
export const chainParts = Object.keys(parts) as ChainPart[];
