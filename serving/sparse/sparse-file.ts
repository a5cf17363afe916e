/** @file search.json of an index of a sparse student. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { writeWhole } from '../../common/files.ts';
import { sealed, unsealed } from '../../common/sealed.ts';
import { DESCRIPTION, FORMAT, hasSearchFile, keptEncoder, readDescription } from '../documents/index-file.ts';

const KIND = 'sparse';
const schema = z.strictObject({
  format: z.literal(FORMAT),
  kind: z.literal(KIND),
  /** Also in the manifest of the postings: a folder mixed of two indexes is refused. */
  id: z.string(),
  /** `dimensions` is the size of the vocabulary. */
  encoder: keptEncoder,
  /** What documents' weights were multiplied by before they were rounded. */
  factor: z.number().positive(),
});

export type SparseFile = z.infer<typeof schema>;

/** What postings of impacts are of. */
export const impactsOf = ({ factor }: Pick<SparseFile, 'factor'>): string => `impacts 1 x ${factor}`;

/** Whether a folder holds the description of such an index. */
export async function isSparseIndex(folder: string): Promise<boolean> {
  if (!hasSearchFile(folder)) return false;
  return unsealed(await readFile(join(folder, DESCRIPTION), 'utf8')).value?.kind === KIND;
}

/** @throws InputError where it is not understood */
export async function readSparseFile(folder: string): Promise<SparseFile> {
  const file = join(folder, DESCRIPTION);
  return readDescription(schema, FORMAT, file, await readFile(file, 'utf8'));
}

export async function writeSparseFile(folder: string, content: Omit<SparseFile, 'format' | 'kind'>): Promise<void> {
  await writeWhole(join(folder, DESCRIPTION), sealed({ format: FORMAT, kind: KIND, ...content }, 1));
}
