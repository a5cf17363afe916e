/** @file Makes and opens an index folder: the description, the encoder that made it, and the documents. */
import { existsSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { readLexicalChannel } from '../retrieval/lexical-channel.ts';
import { checkSettings, defaultSettings, type IndexSettings } from '../retrieval/vector-index.ts';
import { type OpenEncoderOptions, openEncoder } from './encoder.ts';
import { findPlace, hasSearchFile, type Lexical, placeOf, readSearchFile, writeSearchFile } from './index-file.ts';
import { SearchIndex } from './search-index.ts';

/** Settings of a new index. */
export interface CreateIndexOptions extends OpenEncoderOptions {
  /** The checkpoint whose encoder embeds documents and queries. */
  encoder: string;
  /** How vectors are stored and searched; int8 by default. */
  settings?: IndexSettings;
  /** Whether BM25 takes part, as the checkpoint's lexical.json weighs it; true by default where there is one. */
  lexical?: boolean;
}

/** Paths of an index's models, and progress options. */
export interface OpenIndexOptions extends RunControl {
  /** The checkpoint's folder, where it was moved; and the folder of the documents' encoder, likewise. */
  encoder?: string;
  documents?: string;
}

/**
 * Makes an empty index in a new or empty folder.
 * @throws InputError where the folder holds something else, the checkpoint cannot be opened or the settings do not fit
 */
export async function createIndex(folder: string, options: CreateIndexOptions): Promise<SearchIndex> {
  const { encoder: path, settings = defaultSettings, lexical = true, ...opening } = options;
  if (existsSync(folder) && (await readdir(folder)).some((name) => !name.endsWith('.part')))
    throw new InputError({
      code: 'index.exists',
      subject: `${folder} is not empty`,
      remedy: 'open it as an index, or name a new folder',
    });
  const encoder = await openEncoder(path, opening);
  try {
    const channel = lexical ? await lexicalOf(path) : null;
    const { key, dimensions } = encoder;
    const documentsKey = await encoder.documentsKey();
    await mkdir(folder, { recursive: true });
    const kept = { ...placeOf(folder, path), ...opening, key, documentsKey, dimensions };
    checkSettings(settings, dimensions);
    // With the description the folder is an index: vectors are laid out when it is opened.
    await writeSearchFile(folder, { encoder: kept, settings, lexical: channel });
    return await SearchIndex.load(folder, encoder);
  } catch (error) {
    await encoder.dispose();
    throw error;
  }
}

/**
 * Opens an index with its encoder.
 * @throws InputError where the folder holds none, a file of it is damaged, or the encoder is another one than it was made with
 */
export async function openIndex(folder: string, options: OpenIndexOptions = {}): Promise<SearchIndex> {
  const { encoder: other, documents, ...watch } = options;
  const file = await readSearchFile(folder);
  const { dtype, queryTokens, documentTokens } = file.encoder;
  const path = other ?? findPlace(folder, file.encoder);
  const encoder = await openEncoder(path, {
    dtype,
    queryTokens,
    documentTokens,
    documents: documents ?? file.encoder.documents,
  });
  try {
    if (encoder.key !== file.encoder.key)
      throw new InputError({
        code: 'index.encoder',
        subject: `${path} is not the encoder that ${folder} was made with (its weights, tokenizer or limits differ)`,
        remedy: 'name the right checkpoint, or make the index again with distill index',
      });
    return await SearchIndex.load(folder, encoder, watch);
  } catch (error) {
    await encoder.dispose();
    throw error;
  }
}

/** Whether a folder holds an index. */
export const isIndex = hasSearchFile;

async function lexicalOf(checkpoint: string): Promise<Lexical | null> {
  const channel = await readLexicalChannel(checkpoint);
  if (!channel || channel.lambda === 0) return null;
  const { lambda, scale, k1, b, analyzer } = channel;
  return { lambda, scale, k1, b, analyzer };
}
