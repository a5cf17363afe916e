/** @file Bodies of requests: the shapes that text-embeddings-inference has, and those of documents and searches. */
import type { Context } from 'hono';
import { z } from 'zod';
import { hasPrototypeField, MOST_LEVELS, nestsTooDeep } from '../documents/json-values.ts';
import { type Limits, Refusal } from './limits.ts';

const texts = z.array(z.string());
/** Texts are always cut at the limits that the model was trained with. */
const truncate = z.literal(true, "texts are always cut at the model's limit: leave it out, or true").nullish();
const direction = z.enum(['Right', 'right'], 'texts are cut at the end: leave it out, or Right').nullish();

export const embedSparseBody = z.strictObject({
  inputs: z.union([z.string(), texts], 'expected a text or a list of texts; lists of token ids are not read'),
  /** Which side's prompt and limit: `query` by default. */
  prompt_name: z.enum(['query', 'document', 'passage']).nullish(),
  truncate,
  truncation_direction: direction,
});

export const embedBody = embedSparseBody.extend({
  /** Whether vectors are brought to unit length: true by default; false for those that are compared by their product. */
  normalize: z.boolean().nullish(),
  /** The first numbers of each vector. */
  dimensions: z.number().int().min(1).nullish(),
});

export const tokenizeBody = z.strictObject({
  inputs: z.union([z.string(), texts], 'expected a text or a list of texts; lists of token ids are not read'),
  add_special_tokens: z.boolean().default(true),
  /** Whose prompt is put around the texts: none by default. */
  prompt_name: z.enum(['query', 'document', 'passage']).nullish(),
});

const tokenIds = z.array(z.number().int().nonnegative());
export const decodeBody = z.strictObject({
  ids: z.union([tokenIds, z.array(tokenIds)], 'expected a list of token ids, or a list of such lists'),
  skip_special_tokens: z.boolean().default(true),
});

export const similarityBody = z.strictObject({
  inputs: z.strictObject({ source_sentence: z.string(), sentences: texts }),
  parameters: embedSparseBody.omit({ inputs: true }).nullish(),
});

export const rerankBody = z.strictObject({
  query: z.string(),
  texts,
  /** Logits in place of their sigmoid. */
  raw_scores: z.boolean().default(false),
  return_text: z.boolean().default(false),
  truncate,
  truncation_direction: direction,
});

export const searchBody = z.strictObject({
  query: z.string(),
  k: z.number().int().min(1).max(1000).default(10),
  /** Fields of the metadata and the values that they must have. */
  filter: z
    .record(
      z.string(),
      z.union([z.string(), z.number(), z.boolean()], 'expected a text, a number or a boolean that the field equals'),
    )
    .optional(),
});

const document = z.strictObject({
  id: z.string().min(1),
  text: z.string(),
  metadata: z.json().optional(),
});
export const documentsBody = z.union(
  [z.array(document), z.strictObject({ documents: z.array(document) }).transform((b) => b.documents)],
  "expected a list of documents, or { documents: [...] }, each with 'id', 'text' and perhaps 'metadata'",
);

/**
 * A request's body as a schema has it.
 * @throws Refusal 415 for another type than JSON, 400 for invalid JSON, 422 for another shape
 */
export async function bodyOf<T extends z.ZodType>(c: Context, schema: T): Promise<z.output<T>> {
  const type = c.req.header('content-type') ?? '';
  if (!/^application\/json\s*(;|$)/i.test(type))
    throw new Refusal(415, 'expected a body of the content type application/json');
  let value: unknown;
  const text = await c.req.text();
  try {
    value = JSON.parse(text);
  } catch {
    throw new Refusal(400, 'the body is not JSON');
  }
  if (nestsTooDeep(value)) throw new Refusal(422, `the body is nested more than ${MOST_LEVELS} levels deep`);
  if (hasPrototypeField(value))
    throw new Refusal(422, 'a field is named __proto__, which is not read: name it otherwise');
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const at = issue.path.join('.');
  throw new Refusal(422, at ? `${at}: ${issue.message}` : issue.message);
}

/** @throws Refusal 413 where a request has too many texts, 400 where it has none */
export function checkCount(n: number, { texts: most }: Pick<Limits, 'texts'>, what: string): void {
  if (n === 0) throw new Refusal(400, `there are no ${what}`, 'Empty');
  if (n > most) throw new Refusal(413, `${n} ${what} in one request: at most ${most}, send them in several`);
}
