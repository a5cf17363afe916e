/** @file engine.json: which engine holds the documents of an index, and what they were made with. It holds no secret. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { InputError } from '../common/errors.ts';
import { canonicalJson, hashParts, writeWhole } from '../common/files.ts';
import { sealed } from '../common/sealed.ts';
import { type LexicalChannel, readLexicalChannel } from '../retrieval/lexical-channel.ts';
import { keptEncoder, readDescription } from './documents/index-file.ts';

const FILE = 'engine.json';
export const ENGINE_FORMAT = 'onnx-distill-engine-2';

const schema = z.strictObject({
  format: z.literal(ENGINE_FORMAT),
  engine: z.strictObject({
    /** E.g. postgres://me@host:5432/database */
    address: z.string(),
    collection: z.string(),
  }),
  encoder: keptEncoder,
  /** Hash of lexical.json next to it, whose statistics the term weights were made with; null for search by vectors alone. */
  lexical: z.string().nullable(),
});

export type EngineFile = z.infer<typeof schema>;

export const hasEngineFile = (folder: string): boolean => existsSync(join(folder, FILE));

export async function writeEngineFile(folder: string, content: Omit<EngineFile, 'format'>): Promise<void> {
  await writeWhole(join(folder, FILE), sealed({ format: ENGINE_FORMAT, ...content }, 1));
}

/** @throws InputError where a file is not understood, or the lexical channel is another one than the documents were made with */
export async function readEngineFile(
  folder: string,
): Promise<{ file: EngineFile; channel: LexicalChannel | undefined }> {
  const path = join(folder, FILE);
  const file = readDescription(schema, ENGINE_FORMAT, path, await readFile(path, 'utf8'));
  // Whatever is wrong with the file, it is not the one.
  const channel = file.lexical === null ? undefined : await readLexicalChannel(folder).catch(() => null);
  if (file.lexical !== null && (!channel || channelHash(channel) !== file.lexical))
    throw new InputError({
      code: 'index.damaged',
      subject: `${join(folder, 'lexical.json')} ${channel === undefined ? 'is missing' : 'is not the one that the documents were weighed with'}`,
      remedy: 'restore it, or index into another collection',
    });
  return { file, channel: channel ?? undefined };
}

export const channelHash = ({ frequencies, ...channel }: LexicalChannel): string =>
  hashParts(canonicalJson(channel), JSON.stringify(Object.entries(frequencies)));

/** What is kept with a collection: another encoder, or terms weighed otherwise, do not fit it. */
export const aboutOf = ({ encoder, lexical }: Pick<EngineFile, 'encoder' | 'lexical'>): string =>
  canonicalJson({
    format: ENGINE_FORMAT,
    encoder: encoder.documentsKey,
    dimensions: encoder.dimensions,
    lexical,
  });
