/** @file Makes and opens an index folder: the description, the encoder that made it, and the documents. */
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { InputError } from '../common/errors.ts';
import { makeFolder } from '../common/outputs.ts';
import type { RunControl } from '../common/progress.ts';
import { isSparseFolder } from '../models/sparse/sparse-folder.ts';
import { bm25 } from '../retrieval/bm25.ts';
import type { VectorEngine } from '../retrieval/engines/engine.ts';
import { addressText, openEngine, readAddress } from '../retrieval/engines/index.ts';
import { LEXICAL_FILE, lexicalChannel, readLexicalChannel, writeLexicalChannel } from '../retrieval/lexical-channel.ts';
import { DOCUMENT_FACTOR } from '../retrieval/sparse/impact-files.ts';
import { checkSettings, defaultSettings, type IndexSettings } from '../retrieval/vector-index.ts';
import { isLateFolder } from '../students/late/late-folder.ts';
import { checkDocumentsKey } from './documents/add-documents.ts';
import type { DocumentIndex } from './documents/document-index.ts';
import {
  findPlace,
  hasSearchFile,
  type Lexical,
  placeOf,
  readSearchFile,
  type SearchFile,
  storedAs,
  writeSearchFile,
} from './documents/index-file.ts';
import { createStore, unused, VECTORS } from './documents/vectors-folder.ts';
import { deviceOf } from './encoder/checkpoint.ts';
import { type OpenEncoder, type OpenEncoderOptions, openEncoder } from './encoder/encoder.ts';
import { type OpenSparseEncoderOptions, openSparseEncoder } from './encoder/sparse-encoder.ts';
import { aboutOf, channelHash, ENGINE_FORMAT, hasEngineFile, readEngineFile, writeEngineFile } from './engine-file.ts';
import { EngineIndex } from './engine-index.ts';
import {
  createSecondStage,
  hasSecondStage,
  openSecondStage,
  type SecondStage,
  type SecondStageSettings,
} from './multi-vector/second-stage.ts';
import { SearchIndex } from './search-index.ts';
import { impactsOf, isSparseIndex, readSparseFile, writeSparseFile } from './sparse/sparse-file.ts';
import { SparseIndex } from './sparse/sparse-index.ts';

/** Settings of a new index. */
export interface CreateIndexOptions extends OpenEncoderOptions {
  /** The checkpoint whose encoder embeds documents and queries. */
  encoder: string;
  /** How vectors are stored and searched; int8 by default. */
  settings?: IndexSettings;
  /** Whether BM25 takes part, as the checkpoint's lexical.json weighs it; true by default where there is one. */
  lexical?: boolean;
  /**
   * How token vectors of documents are stored for a second stage, where the checkpoint has a re-ranker of late interaction; false for
   * none. Stored as int8 by default.
   */
  tokens?: SecondStageSettings | false;
}

/** Paths of an index's models, and progress options. */
export interface OpenIndexOptions extends RunControl {
  /** The checkpoint's folder, where it was moved; and the folder of the documents' encoder, likewise. */
  encoder?: string;
  documents?: string;
  /** Where texts are encoded: as of openEncoder. */
  provider?: OpenEncoderOptions['provider'];
}

/**
 * Makes an empty index in a new or empty folder.
 * @throws InputError where the folder holds something else, the checkpoint cannot be opened or the settings do not fit
 */
export async function createIndex(folder: string, options: CreateIndexOptions): Promise<SearchIndex> {
  const { encoder: path, settings = defaultSettings, lexical = true, tokens, provider, ...opening } = options;
  if (isSparseFolder(path))
    throw new InputError({
      code: 'index.sparse',
      subject: `${path} is a sparse student, whose documents have no vectors`,
      remedy: 'make its index with createSparseIndex, or with distill index',
    });
  checkTokens(path, tokens);
  await checkEmpty(folder);
  const encoder = await openEncoder(path, { ...opening, provider });
  try {
    const channel = lexical ? await lexicalOf(path) : null;
    const { key, dimensions } = encoder;
    const documentsKey = await encoder.documentsKey();
    const kept = { ...placeOf(folder, path), ...opening, key, documentsKey, dimensions };
    checkSettings(settings, dimensions);
    await makeFolder(folder);
    const { documents } = opening;
    const second = tokens !== false && isLateFolder(path);
    const session = second ? await deviceOf({ model: path }, provider) : undefined;
    if (second) await createSecondStage(folder, path, tokens, { documents, session });
    const file = {
      id: randomUUID(),
      encoder: kept,
      settings,
      lexical: channel,
      ...(second && { second: true as const }),
    };
    await createStore(folder, { ...storedAs(file), settings });
    // Written last: with the description the folder is an index.
    await writeSearchFile(folder, file);
    const stage = second ? await openSecondStage(folder, path, { documents, session }) : undefined;
    return await SearchIndex.load(folder, encoder, {}, stage);
  } catch (error) {
    await encoder.dispose();
    throw error;
  }
}

/** Settings of a new index of a sparse student. */
export interface CreateSparseIndexOptions extends OpenSparseEncoderOptions {
  /** The checkpoint of the sparse student that encodes documents and queries. */
  encoder: string;
}

/**
 * Makes an empty index of a sparse student in a new or empty folder: impacts of documents x 100 as whole numbers in postings.
 * @throws InputError where the folder holds something else, or the checkpoint is no sparse student
 */
export async function createSparseIndex(
  folder: string,
  { encoder: path, provider, ...opening }: CreateSparseIndexOptions,
): Promise<SparseIndex> {
  await checkEmpty(folder);
  const encoder = await openSparseEncoder(path, { ...opening, provider });
  try {
    const { key, vocabulary } = encoder;
    const kept = {
      ...{ ...placeOf(folder, path), ...opening, key, documentsKey: await encoder.documentsKey() },
      dimensions: vocabulary,
    };
    await makeFolder(folder);
    const file = { id: randomUUID(), encoder: kept, factor: DOCUMENT_FACTOR };
    await createStore(folder, { id: file.id, key: kept.documentsKey, dimensions: 0, terms: impactsOf(file) });
    // Written last: with the description the folder is an index.
    await writeSparseFile(folder, file);
    return await SparseIndex.load(folder, encoder);
  } catch (error) {
    await encoder.dispose();
    throw error;
  }
}

/** An index of a sparse student: `openIndex` by its own type. */
async function openSparseIndex(
  folder: string,
  { encoder: other, documents, provider }: OpenIndexOptions,
): Promise<SparseIndex> {
  if (documents !== undefined)
    throw new InputError({
      code: 'index.sparse',
      subject: `${folder} is an index of a sparse student, which encodes its documents itself, and 'documents' is given`,
      remedy: 'leave it out',
    });
  const { encoder: kept } = await readSparseFile(folder);
  const { dtype, queryTokens, documentTokens } = kept;
  const path = other ?? findPlace(folder, kept);
  const encoder = await openSparseEncoder(path, { dtype, queryTokens, documentTokens, provider });
  try {
    if (encoder.key !== kept.key) throw otherEncoder(folder, path);
    await checkDocumentsKey(encoder, kept.documentsKey, folder);
    return await SparseIndex.load(folder, encoder);
  } catch (error) {
    await encoder.dispose();
    throw error;
  }
}

const otherEncoder = (folder: string, path: string): InputError =>
  new InputError({
    code: 'index.encoder',
    subject: `${path} is not the encoder that ${folder} was made with (its weights, tokenizer, prompts, pooling or limits differ)`,
    remedy: 'name the right checkpoint, or make the index again with distill index',
  });

/** @throws InputError where token vectors are asked for and the checkpoint makes none */
function checkTokens(checkpoint: string, tokens: SecondStageSettings | false | undefined): void {
  if (tokens && !isLateFolder(checkpoint))
    throw new InputError({
      code: 'index.tokens',
      subject: `token vectors are asked for and ${checkpoint} has no re-ranker of late interaction (multi-vector.json)`,
      remedy: "train one ('pipeline: late-interaction'), or leave the options of token vectors out",
    });
}

/**
 * Opens an index with its encoder.
 * @throws InputError where the folder holds none, a file of it is damaged, or the encoder is another one than it was made with
 */
export async function openIndex(folder: string, options: OpenIndexOptions = {}): Promise<DocumentIndex> {
  if (hasEngineFile(folder)) return openEngineIndex(folder, options);
  if (await isSparseIndex(folder)) return openSparseIndex(folder, options);
  const file = await readSearchFile(folder);
  const encoder = await openKept(folder, file.encoder, options);
  let second: SecondStage | undefined;
  try {
    if (Boolean(file.second) !== hasSecondStage(folder))
      throw new InputError({
        code: 'index.second-stage',
        subject: `${folder} was made ${file.second ? 'with a second stage of token vectors and second-stage.json is not there' : 'without a second stage of token vectors and has a second-stage.json'}`,
        remedy: file.second
          ? 'restore the file, or make the index again in an empty folder (distill index)'
          : 'remove second-stage.json and the folder tokens, or make the index again in an empty folder (distill index)',
      });
    if (file.second) {
      const path = options.encoder ?? findPlace(folder, file.encoder);
      second = await openSecondStage(folder, path, {
        documents: options.documents ?? file.encoder.documents,
        session: await deviceOf({ model: path }, options.provider),
      });
    }
    return await SearchIndex.load(folder, encoder, options, second);
  } catch (error) {
    await second?.close();
    await encoder.dispose();
    throw error;
  }
}

/** An index whose documents are in an engine: `openIndex` by its own type. */
export async function openEngineIndex(folder: string, options: OpenIndexOptions = {}): Promise<EngineIndex> {
  const read = await readEngineFile(folder);
  const encoder = await openKept(folder, read.file.encoder, options);
  let engine: VectorEngine | undefined;
  try {
    const { address, collection } = read.file.engine;
    engine = await openEngine(readAddress(address, collection));
    return await EngineIndex.load(folder, encoder, read, engine);
  } catch (error) {
    await engine?.close();
    await encoder.dispose();
    throw error;
  }
}

/** What an index in an engine is made with. */
export interface CreateEngineIndexOptions extends OpenEncoderOptions {
  /** The checkpoint whose encoder embeds documents and queries. */
  encoder: string;
  /** The engine: `postgres://`, `lancedb:`, `qdrant://` or `opensearch://`; keys come from the environment. */
  to: string;
  /** The collection in it, `documents` by default. */
  collection?: string;
  /** Whether BM25 takes part, as the checkpoint's lexical.json weighs it; true by default where there is one. */
  lexical?: boolean;
  /** The texts that BM25's statistics are of: those that are going to be added. */
  texts: { readonly length: number; text(i: number): string };
}

/**
 * Makes a collection in an engine, or finds the one that was made with the same, and a folder that names it.
 * @throws InputError where the folder holds something else, the engine cannot be reached, or the collection was made with another encoder
 */
export async function createEngineIndex(
  folder: string,
  { encoder: path, to, collection, lexical = true, texts, provider, ...opening }: CreateEngineIndexOptions,
  watch: RunControl = {},
): Promise<EngineIndex> {
  if (isSparseFolder(path))
    throw new InputError({
      code: 'index.sparse',
      subject: `${path} is a sparse student, whose documents have no vectors for an engine`,
      remedy:
        'index it into a folder (without --to), or write its impacts for Lucene and OpenSearch with distill impacts',
    });
  await checkEmpty(folder);
  const address = readAddress(to, collection);
  const encoder = await openEncoder(path, { ...opening, provider });
  let engine: VectorEngine | undefined;
  try {
    engine = await openEngine(address);
    const found = lexical ? await readLexicalChannel(path) : undefined;
    const channel = found?.lambda
      ? lexicalChannel(await bm25(texts, { ...watch, k1: found.k1, b: found.b, analyzer: found.analyzer }), found)
      : undefined;
    const { key, dimensions } = encoder;
    const kept = { ...placeOf(folder, path), ...opening, key, documentsKey: await encoder.documentsKey(), dimensions };
    const file = {
      engine: { address: addressText(address), collection: address.collection },
      encoder: kept,
      lexical: channel ? channelHash(channel) : null,
    };
    if ((await engine.about()) === undefined) await engine.create(aboutOf(file), dimensions);
    await makeFolder(folder);
    if (channel) await writeLexicalChannel(folder, channel);
    const index = await EngineIndex.load(
      folder,
      encoder,
      { file: { format: ENGINE_FORMAT, ...file }, channel },
      engine,
    );
    await writeEngineFile(folder, file);
    return index;
  } catch (error) {
    await engine?.close();
    await encoder.dispose();
    throw error;
  }
}

/** The encoder that an index was made with. @throws InputError where it is another one */
async function openKept(
  folder: string,
  kept: SearchFile['encoder'],
  { encoder: other, documents, provider }: OpenIndexOptions,
): Promise<OpenEncoder> {
  const { dtype, queryTokens, documentTokens } = kept;
  const path = other ?? findPlace(folder, kept);
  const encoder = await openEncoder(path, {
    ...{ dtype, queryTokens, documentTokens, provider },
    documents: documents ?? kept.documents,
  });
  try {
    if (encoder.key !== kept.key) throw otherEncoder(folder, path);
    // Another encoder's documents are searched without it, so that it need not be there; where it is, it must be the one.
    if (encoder.documentsFrom === undefined || existsSync(encoder.documentsFrom))
      await checkDocumentsKey(encoder, kept.documentsKey, folder);
    return encoder;
  } catch (error) {
    await encoder.dispose();
    throw error;
  }
}

/** Whether a folder holds an index. */
export const isIndex = (folder: string): boolean => hasSearchFile(folder) || hasEngineFile(folder);

/** @throws InputError where a folder holds something */
async function checkEmpty(folder: string): Promise<void> {
  if (!existsSync(folder)) return;
  // What a start that was cut off wrote first is written again.
  const vectors = (await unused(folder)) !== undefined;
  const own = (name: string): boolean =>
    name.endsWith('.part') || name === LEXICAL_FILE || (name === VECTORS && vectors);
  if (!(await readdir(folder)).every(own))
    throw new InputError({
      code: 'index.exists',
      subject: `${folder} is not empty`,
      remedy: 'open it as an index, or name a new folder',
    });
}

async function lexicalOf(checkpoint: string): Promise<Lexical | null> {
  const channel = await readLexicalChannel(checkpoint);
  if (!channel || channel.lambda === 0) return null;
  const { lambda, scale, k1, b, analyzer } = channel;
  return { lambda, scale, k1, b, analyzer };
}
