/** @file Options of the student, by its kind: the schema follows from the registry of kinds. */
import { z } from 'zod';
import { poolings } from '../engine/expressions/pooling.ts';
import { type StudentKind, studentKinds } from '../students/kinds/index.ts';
import { prompts } from './prompts.ts';

const count = z.int().positive();

/** Options of every kind. */
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

type Kinds = typeof studentKinds;
type Kind = keyof Kinds;
type Schemas = {
  [K in Kind]: z.ZodObject<
    { kind: z.ZodDefault<z.ZodLiteral<K>> } & typeof common &
      (Kinds[K]['options'] extends z.ZodRawShape ? Kinds[K]['options'] : never),
    z.core.$strict
  >;
}[Kind];

const schemas = Object.entries(studentKinds).map(([kind, { options }]) =>
  z.strictObject({
    kind: z.literal(kind).default(kind).describe('what the student is; follows from the other keys'),
    ...options,
    ...common,
  }),
) as unknown as [Schemas, ...Schemas[]];
const union = z.discriminatedUnion('kind', schemas);

/** The kind that options without `kind` are of: that whose name is a key. */
export function kindNamed(given: object): string {
  if ('kind' in given) return String(given.kind);
  return Object.keys(studentKinds).find((k) => k !== 'model' && k in given) ?? 'model';
}

const withKind = (given: unknown): unknown =>
  !given || typeof given !== 'object' || Array.isArray(given) ? given : { kind: kindNamed(given), ...grouped(given) };

/** `kind: multi-vector, dimensions: 128`, written flat, as the option of the kind's own name. */
function grouped(given: object): object {
  if (!('kind' in given) || given.kind !== 'multi-vector') return given;
  const own = new Set(['dimensions', 'tokens', 'scorer', 'residual']);
  const entries = Object.entries(given).filter(([key]) => key !== 'kind');
  const named = 'multiVector' in given && typeof given.multiVector === 'object' ? given.multiVector : {};
  return {
    kind: 'multiVector',
    ...Object.fromEntries(entries.filter(([key]) => !own.has(key))),
    multiVector: { ...Object.fromEntries(entries.filter(([key]) => own.has(key))), ...named },
  };
}

export const studentSchema = z.preprocess(withKind, union).describe('what is trained') as unknown as z.ZodType<
  z.output<typeof union>,
  z.input<typeof union>
>;
export type StudentConfig = z.output<typeof union>;

/** The kind of a student; its functions take that student's options. */
export const kindOf = ({ kind }: Pick<StudentConfig, 'kind'>): StudentKind<z.ZodRawShape, StudentConfig> =>
  studentKinds[kind] as unknown as StudentKind<z.ZodRawShape, StudentConfig>;

/** Folder of the encoder that a student starts from; undefined where it starts from none. */
export const startFolder = (student: StudentConfig): string | undefined => kindOf(student).start?.(student);

/** Folder of the encoder that a student starts from, where that is trained already. */
export const trainedEncoder = (student: StudentConfig): string | undefined =>
  kindOf(student).reads.includes('folder') ? startFolder(student) : undefined;

/** The layers that a student keeps of the encoder that it starts from; undefined for all. */
export const layersOf = (student: StudentConfig): readonly number[] | undefined =>
  'layers' in student ? student.layers : undefined;

/** What a report calls the student. */
export const describeStudent = (student: StudentConfig): string => kindOf(student).describe(student);
