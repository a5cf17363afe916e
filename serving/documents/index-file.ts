/** @file search.json: the settings of an index, so that the folder can be opened without further options. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { z } from 'zod';
import { InputError } from '../../common/errors.ts';
import { canonicalJson, writeWhole } from '../../common/files.ts';
import { sealed, type Unsealed, unsealed, unsealedReason } from '../../common/sealed.ts';
import { type CodecName, codecs } from '../../retrieval/codecs/index.ts';

export const DESCRIPTION = 'search.json';
export const FORMAT = 'onnx-distill-search-2';

const optionalTokens = z.number().int().positive().optional();
const codec = z.enum(Object.keys(codecs) as [CodecName, ...CodecName[]]);
/** What made the vectors, and where it was. */
export const keptEncoder = z.strictObject({
  /** Where the checkpoint was, by the index's folder and by the whole path. */
  relative: z.string(),
  path: z.string(),
  dtype: z.string().optional(),
  queryTokens: optionalTokens,
  documentTokens: optionalTokens,
  documents: z.string().optional(),
  /** Of the encoder, and of what embedded the documents. */
  key: z.string(),
  documentsKey: z.string(),
  dimensions: z.number().int().positive(),
});

const schema = z.strictObject({
  format: z.literal(FORMAT),
  /** Also in the manifest of the vectors: a folder mixed of two indexes is refused. */
  id: z.string(),
  encoder: keptEncoder,
  /** There is a second stage of token vectors: a folder that lost it is refused. */
  second: z.literal(true).optional(),
  /** How vectors are stored and searched. */
  settings: z.strictObject({
    codec,
    rescore: z.strictObject({ codec, count: z.number().int().positive() }).optional(),
    dimensions: z.number().int().positive().optional(),
    bins: z.number().int().positive().optional(),
    cells: z.strictObject({ count: z.number().int().positive(), probes: z.number().int().positive() }).optional(),
    graph: z
      .strictObject({
        expansion: z.number().int().positive(),
        connectivity: optionalTokens,
        expansionAdd: optionalTokens,
        from: optionalTokens,
      })
      .optional(),
  }),
  /** The lexical channel's weight and how it reads texts; null for search by vectors alone. */
  lexical: z
    .strictObject({
      lambda: z.number().nonnegative(),
      scale: z.number().positive(),
      k1: z.number().nonnegative(),
      b: z.number().min(0).max(1),
      analyzer: z.strictObject({
        kind: z.enum(['words', 'bigrams', 'segments']),
        stemmer: z.string().nullable(),
      }),
    })
    .nullable(),
});

export type SearchFile = z.infer<typeof schema>;
export type Lexical = NonNullable<SearchFile['lexical']>;

/** What postings of an index are of: those of an earlier version, or of texts split otherwise, are made again. */
export const termsOf = (lexical: Lexical | null): string | undefined =>
  lexical ? `words 1 ${canonicalJson(lexical.analyzer)}` : undefined;

/** The store that a description goes with. */
export const storedAs = ({ id, encoder, lexical }: Omit<SearchFile, 'format'>) => ({
  id,
  key: encoder.documentsKey,
  dimensions: encoder.dimensions,
  terms: termsOf(lexical),
});

export const hasSearchFile = (folder: string): boolean => existsSync(join(folder, DESCRIPTION));

export async function writeSearchFile(folder: string, content: Omit<SearchFile, 'format'>): Promise<void> {
  await writeWhole(join(folder, DESCRIPTION), sealed({ format: FORMAT, ...content }, 1));
}

/** @throws InputError where there is none, or one that is not understood */
export async function readSearchFile(folder: string): Promise<SearchFile> {
  const file = join(folder, DESCRIPTION);
  if (!existsSync(file))
    throw new InputError({
      code: 'index.none',
      subject: `${folder} holds no index (there is no ${DESCRIPTION})`,
      remedy: 'make one with distill index',
    });
  return readDescription(schema, FORMAT, file, await readFile(file, 'utf8'));
}

/** @throws InputError where a file's text was cut or changed, or is not what the schema says */
export function readDescription<T extends z.ZodType>(
  schema: T,
  format: string,
  file: string,
  text: string,
): z.output<T> {
  const read = unsealed(text);
  const parsed = read.value && schema.safeParse(read.value);
  if (parsed?.success) return parsed.data;
  const [issue] = parsed?.error.issues ?? [];
  const why = issue ? [...issue.path, issue.message].join(': ') : unsealedReason(read as { why: Unsealed }, format);
  throw new InputError({
    code: 'index.damaged',
    subject: `${file} is not a description of an index of this version (${why})`,
    remedy: 'make the index again with distill index',
  });
}

/** Both forms of a path, as the file keeps them. A name on the hub stays as it is. */
export const placeOf = (folder: string, path: string): Pick<SearchFile['encoder'], 'relative' | 'path'> =>
  existsSync(path)
    ? { relative: relative(resolve(folder), resolve(path)), path: resolve(path) }
    : { relative: path, path };

/** Resolves a saved path: first relative to its folder, so that both can be moved together. */
export function findPlace(folder: string, kept: Pick<SearchFile['encoder'], 'relative' | 'path'>): string {
  const near = resolve(folder, kept.relative);
  return existsSync(near) ? near : kept.path;
}
