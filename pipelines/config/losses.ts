/** @file The options of every loss in the registry, and the losses that a config names. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { hashFile } from '../../common/files.ts';
import {
  type Loss,
  type LossInput,
  losses,
  type MatryoshkaOptions,
  matryoshka,
  prefixRelations,
} from '../../losses/index.ts';
import { loadLoss } from '../../losses/user-loss.ts';
import type { WeightedLoss } from '../../training/step/dual-encoder-step.ts';

const positive = z.number().positive();
const distance = z.enum(['l2', 'squared', 'cosine']);
const side = z.enum(['queries', 'documents']).default('queries');
const shift = z
  .number()
  .default(-10)
  .describe("added to the student's scaled scores, so that cosines stand for logits; 0 where a dual-encoder teaches");

/** One entry a loss: a loss without one does not compile. */
const options = {
  bce: {
    temperature: positive.default(1).describe("divides the teacher's logits"),
    scale: positive.default(20).describe("multiplies the student's scores"),
    shift,
  },
  'embedding-matching': {
    of: z.enum(['both', 'queries', 'documents']).optional().describe('both, or queries where documents are frozen'),
    distance: distance.default('squared'),
  },
  'gram-matching': {
    of: z
      .array(z.enum(['query-document', 'query-query', 'document-document']))
      .min(1)
      .default(['query-document']),
    temperature: positive.default(0.05).describe("divides the embedder's dot products"),
    studentTemperature: positive.default(0.05),
  },
  'in-batch-kl': {
    temperature: positive.default(0.05).describe("divides the teacher's scores"),
    studentTemperature: positive.default(0.05),
    teacherScores: z.enum(['given', 'embeddings']).default('embeddings'),
  },
  'info-nce': {
    temperature: positive.default(0.05),
    direction: z.enum(['query-to-document', 'both']).default('query-to-document'),
    falseNegatives: z
      .strictObject({ by: z.enum(['candidates', 'embeddings', 'given']), margin: z.number() })
      .optional()
      .describe('documents that the teacher scores above the positive less the margin do not stand against the query'),
  },
  kl: {
    temperature: positive.default(1).describe("divides the teacher's scores: 1 for logits, 0.05 for cosines"),
    studentTemperature: positive.default(0.05),
  },
  m3se: { scale: positive.default(20) },
  'margin-mse': { scale: positive.default(20) },
  mse: { scale: positive.default(20), shift },
  'pair-matching': {
    distance: distance.default('l2').describe('cosine where the student is scaled to unit length: a pair is not'),
  },
  'rank-distil': {
    topK: z.int().positive().optional().describe("places of the teacher's order that count; all by default"),
    temperature: positive.default(0.05),
    draws: z
      .int()
      .nonnegative()
      .default(0)
      .describe("orders drawn a step from the teacher's own model (Gumbel noise); 0 for its order alone"),
  },
  'relative-geometry': {
    of: side,
    distanceWeight: z.number().min(0).default(1),
    angleWeight: z.number().min(0).default(2),
  },
  'similarity-preserving': { of: side },
  slam: { scale: positive.default(20), shift },
} satisfies Record<keyof typeof losses, z.ZodRawShape>;

type Options = typeof options;
type Kind = keyof Options;
const weight = positive.default(1).describe('its share of the total');

/** The same mapping for types that the next line makes of values. */
type LossSchemas = {
  [K in Kind]: z.ZodObject<
    { kind: z.ZodLiteral<K>; weight: typeof weight } & (Options[K] extends z.ZodRawShape ? Options[K] : never),
    z.core.$strict
  >;
}[Kind];

const schemas = Object.entries(options).map(([kind, shape]) =>
  z.strictObject({ kind: z.literal(kind), weight, ...shape }),
) as unknown as [LossSchemas, ...LossSchemas[]];

const module = z.strictObject({
  kind: z.literal('module'),
  weight,
  module: z
    .string()
    .min(1)
    .describe('a file beside the config (./name.mjs) or an installed package that exports a loss; it runs as code'),
  export: z.string().min(1).default('default').describe('which export'),
  options: z.record(z.string(), z.unknown()).default({}).describe('handed to the export where it is a function'),
});

export const lossSchema = z.discriminatedUnion('kind', [...schemas, module]);
export type LossConfig = z.output<typeof lossSchema>;
type Registered = Exclude<LossConfig, { kind: 'module' }>;

export const matryoshkaSchema = z
  .strictObject({
    dimensions: z.array(z.int().positive()).min(1).describe('widths of the prefixes, the full one among them'),
    weights: z
      .array(z.number().min(0))
      .optional()
      .describe('a factor for each width, 0 where it is measured alone; 1 by default'),
    normalize: z.boolean().default(true),
  })
  .describe(
    'every loss is summed over prefixes of the embeddings, so that they can be cut when serving; embedding-matching asks of prefixes what the whole vectors are like',
  );

/** The losses of the registry among those of a config. */
export const registered = (configs: readonly LossConfig[]): Registered[] =>
  configs.filter((l): l is Registered => l.kind !== 'module');

/**
 * The losses of a config as the training graph takes them, a user's own behind those of the registry.
 * @param folder where modules beside the config lie
 * @throws InputError where a module cannot be loaded or is no loss
 */
export async function loadLosses(
  configs: readonly LossConfig[],
  frozenDocuments: boolean,
  nested?: MatryoshkaOptions,
  folder?: string,
): Promise<WeightedLoss[]> {
  const all = toLosses(registered(configs), frozenDocuments, nested);
  for (const l of configs) {
    if (l.kind !== 'module') continue;
    const loss = await loadLoss(l.module, l.export, { options: l.options, folder });
    all.push({ loss: nested ? matryoshka(loss, nested) : loss, weight: l.weight });
  }
  return all;
}

/**
 * The losses of the registry as the training graph takes them.
 * @param frozenDocuments whether documents are given, so that only queries can be matched
 */
export function toLosses(
  configs: readonly Registered[],
  frozenDocuments: boolean,
  nested?: MatryoshkaOptions,
): WeightedLoss[] {
  const made = (kind: Kind, given: object): Loss => {
    if (nested && kind === 'embedding-matching') return prefixRelations({ ...given, ...nested });
    const loss = (losses[kind] as (options: object) => Loss)(given);
    // A cross-encoder's vectors of a pair have the teacher's full width, and nothing that they are like is asked of them.
    return nested && kind !== 'pair-matching' ? matryoshka(loss, nested) : loss;
  };
  return configs.map(({ kind, weight: share, ...given }) => {
    if (kind !== 'embedding-matching') return { loss: made(kind, given), weight: share };
    const of = ('of' in given && given.of) || (frozenDocuments ? 'queries' : 'both');
    // Texts without documents of their own (spans, unlabelled queries) are matched as queries are.
    const extra = of === 'documents' ? undefined : made(kind, { ...given, of: 'queries' });
    return { loss: made(kind, { ...given, of }), weight: share, extra };
  });
}

/** Everything that some loss cannot do without. */
export const needsOf = (weighted: readonly WeightedLoss[]): Set<LossInput> =>
  new Set(weighted.flatMap(({ loss }) => loss.needs));

/** Whether some loss looks at a query's documents. */
export const comparesDocuments = (needs: ReadonlySet<LossInput>): boolean =>
  (['student', 'teacher', 'documents', 'positives'] as const).some((n) => needs.has(n));

/** The content of users' own losses, by the place that names them. Of an installed package its name and version in the config stand. */
export async function lossModules(configs: readonly LossConfig[], folder?: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const [i, l] of configs.entries()) {
    const file = l.kind === 'module' ? resolve(folder ?? '.', l.module) : undefined;
    if (file && existsSync(file)) found[`losses.${i}.module`] = await hashFile(file);
  }
  return found;
}
