/** @file The options of every loss in the registry, and the losses that a config names. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { unreachable } from '../common/errors.ts';
import { hashFile } from '../common/files.ts';
import {
  type Loss,
  type LossInput,
  losses,
  lossInputs,
  type MatryoshkaOptions,
  matryoshka,
  type Option,
  type OptionTable,
  prefixRelations,
} from '../losses/index.ts';
import { loadLoss } from '../losses/user-loss.ts';
import type { WeightedLoss } from '../training/step/dual-encoder-step.ts';

const weight = z.number().positive().default(1).describe('its share of the total');

type Kind = keyof typeof losses;
type Registered = { [K in Kind]: { kind: K; weight: number } & NonNullable<Parameters<(typeof losses)[K]>[0]> }[Kind];
type RegisteredInput = Registered extends infer R
  ? R extends Registered
    ? Omit<R, 'weight'> & { weight?: number }
    : never
  : never;

/** The schema of an option, from the loss's own description of it. */
function optionSchema(option: Option): z.ZodType {
  const of = valueSchema(option);
  return (option.default === undefined ? of.optional() : of.default(option.default)).describe(option.description);
}
function valueSchema(option: Option): z.ZodType {
  switch (option.kind) {
    case 'number': {
      const any = option.whole ? z.int() : z.number();
      const over = option.above === undefined ? any : any.gt(option.above);
      return option.from === undefined ? over : over.min(option.from);
    }
    case 'choice':
      return z.enum(option.of);
    case 'choices':
      return z.array(z.enum(option.of)).min(1);
    case 'group':
      // Given together: none of them is left out.
      return z.strictObject(mapped(option.options, (o) => valueSchema(o).describe(o.description)));
    default:
      return unreachable(option);
  }
}
const mapped = (table: OptionTable, schema: (option: Option) => z.ZodType): Record<string, z.ZodType> =>
  Object.fromEntries(Object.entries<Option>(table).map(([name, option]) => [name, schema(option)]));

const schemas = Object.entries(losses).map(([kind, { options }]) =>
  z.strictObject({ kind: z.literal(kind).describe('which loss'), weight, ...mapped(options, optionSchema) }),
);

const module = z.strictObject({
  kind: z.literal('module').describe('a loss of your own'),
  weight,
  module: z
    .string()
    .min(1)
    .describe(
      'a file in the folder of the config (./name.mjs) or an installed package that exports a loss; it runs as code',
    ),
  export: z.string().min(1).default('default').describe('which export'),
  options: z.record(z.string(), z.unknown()).default({}).describe('passed to the export where it is a function'),
});

/** A loss as a config names it: kind, weight and its options. */
export type LossConfig = Registered | z.output<typeof module>;
export const lossSchema = z.discriminatedUnion('kind', [module, ...schemas]) as unknown as z.ZodType<
  LossConfig,
  RegisteredInput | z.input<typeof module>
>;

export const matryoshkaSchema = z
  .strictObject({
    dimensions: z.array(z.int().positive()).min(1).describe('widths of the prefixes, the full one among them'),
    weights: z
      .array(z.number().min(0))
      .optional()
      .describe('a factor for each width, 0 where it is measured alone; 1 by default'),
    normalize: z.boolean().default(true).describe('whether prefixes are scaled to unit length again'),
  })
  .describe(
    'every loss is summed over prefixes of the embeddings, so that they can be cut when serving; embedding-matching asks of prefixes what the whole vectors are like',
  );

/** The losses of the registry among those of a config. */
export const registered = (configs: readonly LossConfig[]): Registered[] =>
  configs.filter((l): l is Registered => l.kind !== 'module');

/**
 * The losses of a config as the training graph takes them, a user's own behind those of the registry.
 * @param folder of the config, for modules named as ./name.mjs
 * @throws InputError where a module cannot be loaded or is not a loss
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
    // A cross-encoder's vectors of a pair have the teacher's full width, and nothing that they are like is asked of them. What is read of
    // the student's layers has no prefixes.
    const whole = kind === 'pair-matching' || loss.needs.some((n) => lossInputs[n].from === 'layers');
    return nested && !whole ? matryoshka(loss, nested) : loss;
  };
  return configs.map(({ kind, weight: share, ...given }) => {
    if (kind === 'in-batch-kl') {
      // Texts without candidates of their own are compared with the documents of the step, where these are the embedder's.
      const byVectors = !('teacherScores' in given) || given.teacherScores !== 'given';
      const loss = made(kind, given);
      return { loss, weight: share, extra: frozenDocuments && byVectors ? loss : undefined };
    }
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
