/** @file Puts a data set's documents into an index folder; what is there already is not embedded again. */
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import type { Dataset, Texts } from '../data/dataset.ts';
import { openAsRun } from '../data/open.ts';
import { Random } from '../math/random.ts';
import { isSparseFolder } from '../models/sparse/sparse-folder.ts';
import { type CodecName, codecs } from '../retrieval/codecs/index.ts';
import { addressText, readAddress } from '../retrieval/engines/index.ts';
import { loadUsearch } from '../retrieval/graph/usearch.ts';
import type { Tuned, TuningGoal } from '../retrieval/tuned.ts';
import { checkGoal, checkQueries } from '../retrieval/tuning/tune.ts';
import { defaultSettings, type IndexSettings } from '../retrieval/vector-index.ts';
import { BATCH } from '../serving/documents/add-documents.ts';
import type { DocumentIndex, SearchDocument } from '../serving/documents/document-index.ts';
import { readProvenance } from '../serving/encoder/checkpoint.ts';
import { type OpenEncoderOptions, openEncoder } from '../serving/encoder/encoder.ts';
import { openSparseEncoder } from '../serving/encoder/sparse-encoder.ts';
import { EngineIndex } from '../serving/engine-index.ts';
import type { SecondStageSettings } from '../serving/multi-vector/second-stage.ts';
import { createEngineIndex, createIndex, createSparseIndex, isIndex, openIndex } from '../serving/open-index.ts';
import { SearchIndex } from '../serving/search-index.ts';
import { SparseIndex } from '../serving/sparse/sparse-index.ts';
import { isLateFolder } from '../students/late/late-folder.ts';

/** What is indexed, and how. */
export interface IndexOptions extends OpenEncoderOptions {
  checkpoint: string;
  data: string;
  /** Folder of the index; with `to`, the folder that names the engine. */
  output: string;
  /** An engine that holds vectors, term weights and documents: postgres://, lancedb:, qdrant://, opensearch://. */
  to?: string;
  /** Its collection; `documents` by default. */
  collection?: string;
  /** How vectors are scanned; int8 by default. */
  codec?: string;
  /** How the best of the scan are scored again, `codec:count`, e.g. `int8:100`. */
  rescore?: string;
  /** Leading dimensions that are scanned. */
  dimensions?: number;
  /** `usearch`: a graph of near vectors in place of a scan. */
  index?: string;
  /** Settings are searched for that find this share of the nearest, or that answer within so many ms, on the data's queries. */
  recall?: number;
  ms?: number;
  /** Whether BM25 takes part where the checkpoint has lexical.json; true by default. */
  lexical?: boolean;
  /**
   * How token vectors of the documents are stored, where the checkpoint has a re-ranker of late interaction: codec (int8 by default),
   * tokens a document, one of so many left by pooling, documents that are re-ranked. `tokens: false` for none.
   */
  tokens?: number | false;
  tokenCodec?: string;
  pool?: number;
  rerank?: number;
  /** Whether tokens of punctuation are stored; true by default. */
  punctuation?: boolean;
}

/** What the index holds now. */
export interface IndexReport {
  output: string;
  /** The engine and its collection, where the documents are in one. */
  engine?: string;
  /** In the index now; embedded by this call; there before. */
  documents: number;
  added: number;
  kept: number;
  /** Bytes of the encoded vectors; of an index in a folder. */
  bytes?: number;
  hybrid: boolean;
  /** Of the second stage: bytes of the token vectors, and of those of a document. */
  tokens?: { bytes: number; bytesADocument: number; depth: number; codec: string };
  /** Of the vectors; undefined in an index of a sparse student. */
  settings: IndexSettings | undefined;
  /** Of an index of a sparse student: its postings, and their bytes in the folder. */
  postings?: { count: number; bytes: number };
  /** How the settings were found, where they were. */
  tuned?: Tuned;
}

/**
 * Makes an index, or goes on with one.
 * @throws InputError where the checkpoint or the data cannot be read, or the folder's index was made with other options
 */
export async function indexDocuments(options: IndexOptions, watch: RunControl = {}): Promise<IndexReport> {
  const { checkpoint, data, output } = options;
  if (isSparseFolder(checkpoint)) checkSparseOptions(options);
  const goal = goalOf(options);
  if (options.index !== undefined) {
    indexSettings(options);
    await loadUsearch('leave --index out: all documents are scanned then');
  }
  const made = await readProvenance(checkpoint);
  checkEngineOptions(options);
  const dataset = await openAsRun(data, { ...made.data, metadata: true }, [], watch);
  if (goal) checkQueries(dataset.queries.length);
  const index = isIndex(output) ? await goOn(options, watch) : await create(options, dataset, watch);
  try {
    noteEncoder(index, watch);
    const before = index.size;
    const { added, kept } = await addDataset(index, dataset, watch);
    if (added && index instanceof EngineIndex) await index.settle();
    if (before > kept)
      watch.onProgress?.({
        stage: 'index',
        done: index.size,
        unit: 'documents',
        note: `the index holds ${before - kept} documents whose text or metadata in the data is another one or that the data lacks; those of the data were replaced, the others stay`,
      });
    if (goal && index instanceof SearchIndex && !index.tuned)
      await index.tune(tuningQueries(dataset), goal, { ...watch, graph: options.index !== undefined });
    else if (added && index instanceof SearchIndex && index.settings.graph) await index.compact();
    const second = index instanceof SearchIndex ? index.second : undefined;
    return {
      output,
      documents: index.size,
      added,
      kept,
      ...(index instanceof EngineIndex && { engine: index.name }),
      ...(index instanceof SparseIndex && { postings: index.postings }),
      ...(index instanceof SearchIndex && { bytes: index.bytes, tuned: index.tuned }),
      hybrid: index.hybrid,
      ...(second && {
        tokens: {
          bytes: second.bytes,
          bytesADocument: second.bytesADocument,
          depth: second.depth,
          codec: second.settings.codec,
        },
      }),
      settings: index.settings,
    };
  } finally {
    await index.close();
  }
}

/** @throws InputError where both a recall and a time are asked for, or settings together with them */
function goalOf({ recall, ms, codec, rescore, dimensions }: IndexOptions): TuningGoal | undefined {
  if (recall === undefined && ms === undefined) return undefined;
  const other =
    ms !== undefined && recall !== undefined
      ? '--ms'
      : Object.entries({ codec, rescore, dimensions }).find(([, v]) => v !== undefined)?.[0];
  if (other)
    throw new InputError({
      code: 'index.settings',
      subject: `${recall === undefined ? '--ms' : '--recall'} together with ${other.startsWith('--') ? other : `--${other}`}`,
      remedy: 'give one of them: a recall, a time, or the settings themselves',
    });
  const goal: TuningGoal = recall === undefined ? { ms: ms as number } : { recall };
  checkGoal(goal);
  return goal;
}

/** Queries that settings are found and measured with, at most; drawn from all of the data's. */
const TUNING_QUERIES = 2000;

function tuningQueries({ queries }: Pick<Dataset, 'queries'>): Texts {
  const order = Random.of(0, 'tuning queries').shuffle(Int32Array.from({ length: queries.length }, (_, i) => i));
  return { length: Math.min(TUNING_QUERIES, order.length), text: (i) => queries.text(order[i]) };
}

/** Adds the documents of a data set that an index does not have with the same text and metadata. */
export async function addDataset(
  index: DocumentIndex,
  dataset: Pick<Dataset, 'documents'>,
  { onProgress, signal }: RunControl,
): Promise<{ added: number; kept: number }> {
  const { ids } = dataset.documents;
  // In parts: a data set holds each id once, and a set of all of them would be as large as the texts.
  for (let at = 0; at < ids.length; at += BATCH)
    index.checkIds(Array.from({ length: Math.min(BATCH, ids.length - at) }, (_, j) => ids[at + j]));
  const total = dataset.documents.length;
  let [looked, added] = [0, 0];
  let waiting: SearchDocument[] = [];
  const write = async (): Promise<void> => {
    const before = looked - waiting.length;
    await index.add(waiting, {
      signal,
      onProgress: onProgress && ((p) => onProgress({ ...p, done: before + p.done, total })),
    });
    added += waiting.length;
    waiting = [];
  };
  for (const batch of batchesOf(dataset)) {
    signal?.throwIfAborted();
    const absent = await index.missing(batch);
    if (waiting.length + absent.length > BATCH) await write();
    for (const document of absent) waiting.push(document);
    looked += batch.length;
  }
  if (waiting.length) await write();
  onProgress?.({ stage: 'index', done: total, total, unit: 'documents' });
  return { added, kept: total - added };
}

/** Documents of the data that an index lacks or has with another text. */
export async function countMissing(index: DocumentIndex, documents: Dataset['documents']): Promise<number> {
  let missing = 0;
  for (const batch of batchesOf({ documents })) {
    const texts = new Map((await index.getMany(batch.map((d) => d.id))).map((d) => [d.id, d.text]));
    missing += batch.filter((d) => texts.get(d.id) !== d.text).length;
  }
  return missing;
}

function* batchesOf({ documents }: Pick<Dataset, 'documents'>): Generator<SearchDocument[]> {
  for (let at = 0; at < documents.length; at += BATCH)
    yield Array.from({ length: Math.min(BATCH, documents.length - at) }, (_, j): SearchDocument => {
      const i = at + j;
      const metadata = documents.metadata?.(i);
      return { id: documents.ids[i], text: documents.text(i), ...(metadata !== undefined && { metadata }) };
    });
}

/** Settings of the second stage; undefined where none is given, so that the checkpoint decides. */
function tokenSettings({
  tokens,
  tokenCodec,
  pool,
  rerank,
  punctuation,
}: IndexOptions): SecondStageSettings | false | undefined {
  const given = { tokens: tokens || undefined, codec: tokenCodec as SecondStageSettings['codec'], pool, depth: rerank };
  const some = Object.entries({ ...given, punctuation: punctuation === false ? false : undefined }).filter(
    ([, v]) => v !== undefined,
  );
  if (tokens === false && some.length)
    throw new InputError({
      code: 'index.tokens',
      subject: `'${some[0][0]}' of token vectors is given, and none are stored (--no-tokens)`,
      remedy: 'leave one of them out',
    });
  if (tokens === false) return false;
  return some.length ? Object.fromEntries(some) : undefined;
}

/** @throws InputError where options of a folder's vectors are given for an engine */
function checkEngineOptions(options: IndexOptions): void {
  const { to, collection, codec, rescore, dimensions, recall, ms, index, tokens, tokenCodec, pool, rerank } = options;
  const stage = { tokens: tokens || undefined, tokenCodec, pool, rerank };
  const given = Object.entries({ codec, rescore, dimensions, recall, ms, index, ...stage }).find(
    ([, v]) => v !== undefined,
  )?.[0];
  if (to !== undefined && given)
    throw new InputError({
      code: 'index.options',
      subject: `--${given} with --to`,
      expected: 'options of the engine, which stores vectors in its own way',
      remedy: `leave --${given} out`,
    });
  if (to === undefined && collection !== undefined)
    throw new InputError({
      code: 'index.options',
      subject: '--collection without --to',
      expected: 'the engine that the collection is in',
      remedy: 'add --to with its address',
    });
}

/** Candidates of a walk through a graph, where neither a recall nor a time is asked for. */
const EXPANSION = 100;

/** @throws InputError where there is no such encoding, or no such kind of index */
export function indexSettings({
  codec,
  rescore,
  dimensions,
  index,
}: Pick<IndexOptions, 'codec' | 'rescore' | 'dimensions' | 'index'>) {
  if (index !== undefined && index !== 'usearch')
    throw new InputError({
      code: 'index.settings',
      subject: `there is no kind of index '${index}'`,
      expected: 'usearch',
      remedy: 'name it, or leave --index out: all documents are scanned then',
    });
  const codecOf = (name: string): CodecName => {
    if (Object.hasOwn(codecs, name)) return name as CodecName;
    throw new InputError({
      code: 'index.settings',
      subject: `there is no encoding '${name}'`,
      expected: `one of ${Object.keys(codecs).join(', ')}`,
      remedy: 'name one of these',
    });
  };
  const settings: IndexSettings = {
    codec: codec === undefined ? defaultSettings.codec : codecOf(codec),
    ...(rescore !== undefined && { rescore: rescoreOf(rescore, codecOf) }),
    ...(dimensions !== undefined && { dimensions }),
    ...(index !== undefined && { graph: { expansion: EXPANSION } }),
  };
  return settings;
}

function rescoreOf(text: string, codecOf: (name: string) => CodecName): NonNullable<IndexSettings['rescore']> {
  const [, name, count] = /^(\w+):(\d+)$/.exec(text) ?? [];
  if (name === undefined || Number(count) < 1)
    throw new InputError({
      code: 'index.settings',
      subject: `--rescore '${text}'`,
      expected: 'an encoding and a count',
      remedy: 'give for instance int8:100',
    });
  return { codec: codecOf(name), count: Number(count) };
}

/** @throws InputError where an option is of vectors, and the checkpoint is a sparse student, which has none */
function checkSparseOptions(options: IndexOptions): void {
  const { to, collection, codec, rescore, dimensions, recall, ms, index, documents } = options;
  const { tokens, tokenCodec, pool, rerank, exit, lexical, punctuation } = options;
  const dense = {
    to,
    collection,
    codec,
    rescore,
    dimensions,
    recall,
    ms,
    index,
    documents,
    tokens,
    pool,
    rerank,
    exit,
  };
  const given = [
    ...Object.entries({ ...dense, 'token-codec': tokenCodec }).flatMap(([name, v]) =>
      v === undefined ? [] : v === false ? [`no-${name}`] : [name],
    ),
    ...(lexical === false ? ['no-lexical'] : []),
    ...(punctuation === false ? ['no-punctuation'] : []),
  ];
  if (given.length)
    throw new InputError({
      code: 'index.sparse',
      subject: `--${given[0]} with the sparse student ${options.checkpoint}, whose documents have no vectors`,
      remedy: 'leave it out',
    });
}

/** What the encoder says of itself, such as a file that computes on the CPU where a device was named. */
export function noteEncoder({ encoder }: Pick<DocumentIndex, 'encoder'>, watch: RunControl): void {
  for (const note of encoder.notes) watch.onProgress?.({ stage: 'index', done: 0, unit: 'documents', note });
}

function create(options: IndexOptions, dataset: Dataset, watch: RunControl): Promise<DocumentIndex> {
  const { checkpoint, output, to, collection, lexical, dtype, queryTokens, documentTokens, documents, provider } =
    options;
  if (isSparseFolder(checkpoint))
    return createSparseIndex(output, { encoder: checkpoint, dtype, queryTokens, documentTokens, provider });
  const made = { encoder: checkpoint, lexical, dtype, queryTokens, documentTokens, documents, provider };
  const tokens = tokenSettings(options);
  if (to !== undefined && isLateFolder(checkpoint))
    watch.onProgress?.({
      stage: 'index',
      done: 0,
      unit: 'documents',
      note: `${checkpoint} re-ranks by token vectors, which an engine does not hold here: the index has its first stage alone`,
    });
  // Settings are found on vectors as they are, once all are there.
  const settings: IndexSettings = goalOf(options) ? { codec: 'float32' } : indexSettings(options);
  return to === undefined
    ? createIndex(output, { ...made, settings, tokens })
    : createEngineIndex(output, { ...made, to, collection, texts: dataset.documents }, watch);
}

/** @throws InputError where the index in the folder was made with other options */
async function goOn(options: IndexOptions, watch: RunControl): Promise<DocumentIndex> {
  const { checkpoint, output, to, collection, codec, rescore, dimensions, lexical, documents, provider } = options;
  const index = await openIndex(output, { ...watch, encoder: checkpoint, documents, provider });
  const other = (what: string): InputError =>
    new InputError({
      code: 'index.other',
      subject: `${output} holds an index made with ${what}`,
      remedy: 'give the same options, or name another folder',
    });
  try {
    if (to !== undefined) {
      const wanted = engineName(to, collection);
      const found = index instanceof EngineIndex ? index.place : 'no engine';
      if (found !== wanted) throw other(`${found}, and ${wanted} is asked for`);
    } else if (index instanceof EngineIndex && (codec ?? rescore ?? dimensions ?? options.index) !== undefined)
      throw other(`the engine ${index.name}, which stores vectors in its own way`);
    if ((codec ?? rescore ?? dimensions ?? options.index) !== undefined && !goalOf(options)) {
      const wanted = JSON.stringify(indexSettings(options));
      const found = JSON.stringify(index.settings);
      if (wanted !== found) throw other(`the settings ${found}, and ${wanted} are asked for`);
    }
    const stage = tokenSettings(options);
    const second = index instanceof SearchIndex ? index.second : undefined;
    if (stage === false && second) throw other('a second stage, and none is asked for');
    if (stage && !second) throw other('no second stage');
    for (const [name, value] of Object.entries(stage || {}))
      if (value !== undefined && second && second.settings[name as keyof typeof second.settings] !== value)
        throw other(`${name} ${second.settings[name as keyof typeof second.settings] ?? 'of all'} of token vectors`);
    const goal = goalOf(options);
    const tuned = index instanceof SearchIndex ? index.tuned : undefined;
    if (goal && tuned && JSON.stringify(goal) !== JSON.stringify(tuned.goal))
      throw other(`settings found for ${JSON.stringify(tuned.goal)}, and ${JSON.stringify(goal)} is asked for`);
    if (goal && !tuned && JSON.stringify(index.settings) !== JSON.stringify({ codec: 'float32' }))
      throw other(`the settings ${JSON.stringify(index.settings)}, which keep no vectors to find others with`);
    if (goal && tuned)
      watch.onProgress?.({
        stage: 'index',
        done: index.size,
        unit: 'documents',
        note: `settings were found on ${tuned.documents} documents before and stay; for a new search name another folder`,
      });
    if (lexical === false && index.hybrid) throw other('BM25');
    const { dtype, queryTokens, documentTokens } = options;
    if (dtype !== undefined || queryTokens !== undefined || documentTokens !== undefined) {
      const limits = { dtype, queryTokens, documentTokens };
      const wanted = isSparseFolder(checkpoint)
        ? await openSparseEncoder(checkpoint, limits)
        : await openEncoder(checkpoint, { ...limits, documents });
      const same =
        wanted.key === index.encoder.key && (await wanted.documentsKey()) === (await index.encoder.documentsKey());
      await wanted.dispose();
      if (!same) throw other('another dtype or other limits');
    }
    return index;
  } catch (error) {
    await index.close();
    throw error;
  }
}

const engineName = (to: string, collection: string | undefined): string => {
  const address = readAddress(to, collection);
  return `${addressText(address)}#${address.collection}`;
};
