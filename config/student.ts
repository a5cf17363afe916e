/** @file Options of the student, by its kind: the schema follows from the registry of kinds. */
import { z } from 'zod';
import { poolings } from '../engine/expressions/pooling.ts';
import { type StudentKind, studentKinds } from '../students/kinds/index.ts';
import { prompts } from './prompts.ts';

const count = z.int().positive();
const path = z.string().min(1);

/** General texts on which a student stays near the encoder as it was. */
const keep = z
  .strictObject({
    model: path
      .optional()
      .describe(
        'folder of the encoder whose embeddings are kept; by default the one that the student starts from, or of a query tower its embedder',
      ),
    texts: z
      .union([path, z.array(path).min(1)])
      .optional()
      .describe(
        "where spans are taken from: folders or files read as data.path is, each with the same share; the run's own documents by default",
      ),
    kind: z
      .enum(['spans', 'tokens'])
      .default('spans')
      .describe('spans of texts; or tokens: random ones of the vocabulary, for which no text is read'),
    count: count.default(64).describe('spans a step'),
    tokens: z
      .tuple([count, count])
      .default([5, 64])
      .refine(([from, to]) => from <= to, { error: 'expected the smaller number first' })
      .describe('tokens of a span, from and to'),
    weight: z.number().positive().default(2).describe('of the mean squared distance in the total loss'),
  })
  .describe(
    'general spans whose embeddings stay near those of the encoder as it was, against the loss of quality in other domains',
  );

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
  keep: keep.optional(),
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

/** The folder whose encoder a student is before it is trained; undefined where an option changes what it gives. */
export function unchangedEncoder(student: StudentConfig): string | undefined {
  const { pooling, normalize } = student;
  const architecture = 'architecture' in student ? student.architecture : undefined;
  const changed = pooling !== undefined || normalize !== undefined || layersOf(student) || architecture?.length;
  return changed ? undefined : trainedEncoder(student);
}

/** What a report calls the student. */
export const describeStudent = (student: StudentConfig): string => kindOf(student).describe(student);

/**
 * What of `student.keep` cannot be, with the remedy.
 * @param trainsAssistant whether something trains in the space of the encoder that the student starts from
 */
export function refusedKeep(
  student: StudentConfig,
  embedder: { kind?: string; model?: string; url?: string } | undefined,
  trainsAssistant: boolean,
): [subject: string, remedy: string] | undefined {
  const { keep, towers } = student;
  if (!keep) return undefined;
  const none = keep.model === undefined;
  if (keep.kind === 'tokens' && keep.texts !== undefined)
    return ["'student.keep.kind: tokens' reads no texts", "remove 'student.keep.texts', or use 'kind: spans'"];
  if (keep.kind === 'spans' && keep.texts === undefined && !trainsAssistant)
    return [
      "'student.keep' without texts is read by the assistant alone, and this chain trains none",
      "name general texts under 'student.keep.texts', or remove it",
    ];
  if (none && towers !== 'query') {
    if (trainedEncoder(student) === undefined)
      return [
        "'student.keep' has no encoder as it was: the student starts from none",
        "name one under 'student.keep.model', or remove it",
      ];
    if (student.pooling !== undefined || student.normalize !== undefined)
      return [
        "'student.keep' reads the encoder as its folder says, and 'student.pooling' or 'student.normalize' changes that",
        "name a folder with the same pooling under 'student.keep.model', or remove them",
      ];
  }
  if (none && towers === 'query' && embedder?.kind === 'vectors')
    return [
      "'student.keep' embeds spans, which vectors of a file cannot",
      "name the embedder's model under 'student.keep.model', or remove it",
    ];
  if (none && towers === 'query' && keep.kind === 'tokens' && embedder?.kind === 'http')
    return [
      "'student.keep.kind: tokens' asks for the embeddings of token ids, which a service does not take",
      "name a folder under 'student.keep.model', or use 'kind: spans'",
    ];
  return undefined;
}
