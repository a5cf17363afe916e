/** @file A student that starts from a trained encoder, whole or cut to some of its layers. */
import { z } from 'zod';
import { type ArchitectureOptions, architectureSchema, describeArchitecture } from '../architectures/index.ts';
import { loadStudent } from '../encoder-student.ts';
import { defineStudent } from './kind.ts';

/** Which layers of an encoder are kept. */
export const layers = z
  .array(z.int())
  .min(1)
  .optional()
  .describe(
    'layers kept, by their numbers from 0, lowest first (-1 is the last, -2 the one before it); all by default',
  );

/** Layers as texts name them. */
export const namedLayers = (layers: readonly number[]): string =>
  layers.map((k) => (k === -1 ? 'the last' : k < 0 ? `${-k} from the end` : k)).join(', ');

/** A folder with the layers that are kept, as reports name it. */
export const describeLayers = (o: {
  model: string;
  layers?: readonly number[] | undefined;
  architecture?: readonly ArchitectureOptions[] | undefined;
}): string => `${o.model}${o.layers ? `, layers ${namedLayers(o.layers)}` : ''}${describeArchitecture(o.architecture)}`;

/** An encoder in a model folder or on the hub. */
export const model = defineStudent({
  options: {
    model: z.string().default('').describe('folder of the encoder that the student starts from'),
    layers,
    architecture: architectureSchema,
  },
  reads: ['folder'],
  refused: (o) =>
    o.model ? undefined : ["'student.model' is missing", "name a model folder, or give 'student.fresh'"],
  start: (o) => o.model,
  describe: describeLayers,
  open: (o) => loadStudent(o.model, o),
});
