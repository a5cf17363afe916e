/** @file A cross-encoder's folder with exits: what exits.json says, and where its segments are. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { InputError } from '../common/errors.ts';
import { readFacts } from './reading/facts-file.ts';

const FILE = 'exits.json';
const FORMAT = 'onnx-distill-exits-1';

const count = z.number().int().nonnegative();
const schema = z.strictObject({
  format: z.literal(FORMAT),
  /** Layers run by each exit, ascending; the last is the whole model. */
  layers: z.array(z.number().int().positive()).min(2),
  /** Standard deviation of each exit's logit about the whole model's, on pairs that it was not fitted on; 0 of the last. */
  deviations: z.array(z.number().nonnegative()),
  /** Share of the variance of the whole model's logits that each exit explains on these pairs; 1 of the last. */
  explained: z.array(z.number()),
  /** How surely a pair's place must be settled before it stops; `all`: every pair goes through all layers. */
  threshold: z.union([z.number().nonnegative(), z.literal('all')]),
  /** What the threshold promises; absent where it was chosen without calibration. */
  guarantee: z
    .strictObject({
      alpha: z.number(),
      delta: z.number().min(0).max(1),
      against: z.enum(['labels', "the whole model's order"]),
      queries: count,
      needed: count,
      certified: z.boolean(),
      risk: z.number(),
      /** Layers a pair, on the queries that it was certified on. */
      layers: z.number().nonnegative(),
    })
    .optional(),
});

type Stored = z.infer<typeof schema>;
/** As exits.json says it; a threshold of Infinity runs all layers. */
export interface ExitsFile extends Omit<Stored, 'format' | 'threshold'> {
  threshold: number;
}

export const hasExits = (folder: string): boolean => existsSync(join(folder, FILE));

/** The file of a segment, counted from 0. */
export const segmentFile = (folder: string, i: number): string => join(folder, 'onnx', `segment-${i + 1}.onnx`);

/** What stands in exits.json. */
export const exitsJson = ({ threshold, ...rest }: ExitsFile): string =>
  `${JSON.stringify({ format: FORMAT, ...rest, threshold: Number.isFinite(threshold) ? threshold : 'all' } satisfies Stored, null, 1)}\n`;

/** @throws InputError where exits.json is not understood, or a segment is missing */
export async function readExits(folder: string): Promise<ExitsFile> {
  const file = join(folder, FILE);
  const refuse = (why: string): never => {
    throw new InputError({
      code: 'exits.file',
      subject: `${file} is no description of exits of this version (${why})`,
      remedy: 'make the folder again with distill exits',
    });
  };
  const { format: _, threshold, ...rest } = await readFacts(file, schema, refuse);
  const { layers, deviations, explained } = rest;
  if (layers.some((n, i) => i > 0 && n <= layers[i - 1])) refuse('layers: not ascending');
  if (deviations.length !== layers.length || explained.length !== layers.length)
    refuse('deviations, explained: as many as layers are expected');
  const missing = layers.map((_, i) => segmentFile(folder, i)).find((f) => !existsSync(f));
  if (missing !== undefined) refuse(`there is no file ${missing}`);
  return { ...rest, threshold: threshold === 'all' ? Number.POSITIVE_INFINITY : threshold };
}

/** The promise as a sentence. */
export function exitsSentence({ guarantee: g, layers }: Pick<ExitsFile, 'guarantee' | 'layers'>): string {
  const all = layers[layers.length - 1];
  if (!g) return `nothing was certified: all ${all} layers are run`;
  const percent = (x: number): string => `${Number((100 * x).toPrecision(6))} %`;
  const asked = `a risk of ${g.alpha} with a confidence of ${percent(1 - g.delta)}`;
  if (!g.certified)
    return `nothing could be certified with ${g.queries} queries: ${asked} ${g.queries < g.needed ? `needs at least ${g.needed}` : 'is more than they show'}; all ${all} layers are run`;
  return `compared with all ${all} layers, a query loses on average at most ${g.alpha} of nDCG@10 (by ${g.against}) with a confidence of ${percent(1 - g.delta)}, certified on ${g.queries} queries with ${g.layers.toFixed(2)} layers a pair`;
}
