/** @file The lexical channel of a hybrid student as a file: term statistics and the weight of the channel. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../common/errors.ts';
import { writeWhole } from '../common/files.ts';
import type { AnalyzerSpec } from './analyzer.ts';
import type { Bm25 } from './bm25.ts';
import type { HybridWeight } from './hybrid.ts';

/** score = cosine + lambda x BM25 / scale, with BM25 as Lucene has it. */
export interface LexicalChannel extends HybridWeight {
  readonly k1: number;
  readonly b: number;
  readonly analyzer: AnalyzerSpec;
  /** Documents of the corpus that frequencies are of, and their mean length in terms. */
  readonly documents: number;
  readonly averageLength: number;
  /** Document frequency of each term. */
  readonly frequencies: Readonly<Record<string, number>>;
}

export const LEXICAL_FILE = 'lexical.json';
const FORMAT = 'onnx-distill-lexical-1';

/** A channel of an index and a fitted weight. */
export function lexicalChannel(index: Bm25, { lambda, scale }: HybridWeight): LexicalChannel {
  const { terms, frequencies, k1, b, analyzer, documents, averageLength } = index.statistics();
  // A null prototype: a term may be called constructor.
  const byTerm: Record<string, number> = Object.assign(Object.create(null), {});
  for (const [i, term] of terms.entries()) byTerm[term] = frequencies[i];
  return { lambda, scale, k1, b, analyzer, documents, averageLength, frequencies: byTerm };
}

/** Writes FOLDER/lexical.json. */
export const writeLexicalChannel = (folder: string, channel: LexicalChannel): Promise<void> =>
  writeWhole(join(folder, LEXICAL_FILE), `${JSON.stringify({ format: FORMAT, ...channel })}\n`);

/**
 * Reads FOLDER/lexical.json.
 * @returns undefined where there is none
 * @throws InputError where the file is none of this version
 */
export async function readLexicalChannel(folder: string): Promise<LexicalChannel | undefined> {
  const file = join(folder, LEXICAL_FILE);
  if (!existsSync(file)) return undefined;
  let value: Partial<LexicalChannel & { format: string }> | null = null;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch {
    // Answered below.
  }
  const numbers = ['lambda', 'scale', 'k1', 'b', 'documents', 'averageLength'] as const;
  if (
    value?.format !== FORMAT ||
    numbers.some((n) => !Number.isFinite(value?.[n])) ||
    !value.frequencies ||
    Array.isArray(value.frequencies) ||
    !Object.values(value.frequencies).every((n) => Number.isSafeInteger(n) && n > 0) ||
    !['words', 'bigrams', 'segments'].includes(value.analyzer?.kind ?? '')
  )
    throw new InputError({
      code: 'lexical.file',
      subject: `${file} is not a lexical channel of this version`,
      remedy: 'run the pipeline again, or remove the file to search by vectors alone',
    });
  const { format: _, ...channel } = value;
  return channel as LexicalChannel;
}

/**
 * The weight of a term, idf = ln(1 + (N - df + 0.5) / (df + 0.5)); 0 for one that occurs in no document. @lintignore For programs
 * that read the file.
 */
export function inverseDocumentFrequency({ documents, frequencies }: LexicalChannel, term: string): number {
  const df = Object.hasOwn(frequencies, term) ? frequencies[term] : 0;
  return df ? Math.log1p((documents - df + 0.5) / (df + 0.5)) : 0;
}
