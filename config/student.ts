/** @file Options of the student, by its kind. */
import { z } from 'zod';
import { unreachable } from '../common/errors.ts';
import { poolings } from '../engine/expressions/pooling.ts';
import { orderNames } from '../students/static-order.ts';
import { prompts } from './prompts.ts';

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

const staticTable = z
  .strictObject({
    order: z.enum(orderNames).default('none').describe('how word order is modelled'),
    width: count.default(64).describe('columns of what word order adds'),
    buckets: count.default(131_072).describe('rows of the table of hashed bigrams'),
  })
  .describe('a table of token vectors instead of a transformer, for the pipeline static-queries');

/** What every kind may be told. */
const common = {
  towers: z
    .enum(['both', 'query'])
    .optional()
    .describe(
      'query: only queries are encoded, over frozen documents of the embedder; as the pipeline says by default',
    ),
  pooling: z.enum(poolings).optional().describe("how token vectors become one; as the model's folder says by default"),
  normalize: z
    .boolean()
    .optional()
    .describe("whether vectors are scaled to unit length; as the model's folder says by default"),
  prompts,
  queryTokens: count.default(64).describe('tokens of a query, special tokens included'),
  documentTokens: count.default(192).describe('tokens of a document, special tokens included'),
};
const layers = z
  .array(z.int().nonnegative())
  .min(1)
  .optional()
  .describe('layers kept, by their numbers from 0, lowest first; all by default');

/** One entry a kind: its options in addition to those in common. */
const kinds = {
  model: {
    model: z.string().default('').describe('folder of the encoder that the student starts from'),
    layers,
  },
  fresh: {
    fresh: freshSchema,
    model: z.string().default('').describe('folder that the new encoder is made in; OUTPUT/fresh by default'),
    layers,
  },
  static: { static: staticTable },
} satisfies Record<string, z.ZodRawShape>;

type Kinds = typeof kinds;
type Kind = keyof Kinds;
type Schemas = {
  [K in Kind]: z.ZodObject<
    { kind: z.ZodDefault<z.ZodLiteral<K>> } & typeof common & (Kinds[K] extends z.ZodRawShape ? Kinds[K] : never),
    z.core.$strict
  >;
}[Kind];

const schemas = Object.entries(kinds).map(([kind, shape]) =>
  z.strictObject({
    kind: z.literal(kind).default(kind).describe('what the student is; follows from the other keys'),
    ...shape,
    ...common,
  }),
) as unknown as [Schemas, ...Schemas[]];
const union = z.discriminatedUnion('kind', schemas);

/** The kind that options without one are of: that whose name is a key. */
function withKind(given: unknown): unknown {
  if (!given || typeof given !== 'object' || Array.isArray(given) || 'kind' in given) return given;
  const kind = Object.keys(kinds).find((k) => k !== 'model' && k in given) ?? 'model';
  return { kind, ...given };
}

export const studentSchema = z.preprocess(withKind, union).describe('what is trained') as unknown as z.ZodType<
  z.output<typeof union>,
  z.input<typeof union>
>;
export type StudentConfig = z.output<typeof union>;

/** Folder of the encoder that a student starts from; undefined where it starts from none. */
export function startFolder(student: StudentConfig): string | undefined {
  switch (student.kind) {
    case 'model':
    case 'fresh':
      return student.model;
    case 'static':
      return undefined;
    default:
      return unreachable(student);
  }
}

/** What a report calls the student. */
export function describeStudent(student: StudentConfig): string {
  switch (student.kind) {
    case 'model':
    case 'fresh':
      return `${student.model}${student.layers ? `, layers ${student.layers.join(', ')}` : ''}`;
    case 'static':
      return `a static table of token vectors, word order ${student.static.order}`;
    default:
      return unreachable(student);
  }
}
