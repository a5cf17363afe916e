/** @file Puts a data set's documents into an index folder; what is there already is not embedded again. */
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import type { Dataset, Texts } from '../data/dataset.ts';
import { openDataset } from '../data/open.ts';
import { Random } from '../math/random.ts';
import { type CodecName, codecs } from '../retrieval/codecs/index.ts';
import type { Tuned, TuningGoal } from '../retrieval/tuned.ts';
import { checkGoal, checkQueries } from '../retrieval/tuning/tune.ts';
import { defaultSettings, type IndexSettings } from '../retrieval/vector-index.ts';
import { readProvenance } from '../serving/checkpoint.ts';
import { type OpenEncoderOptions, openEncoder } from '../serving/encoder.ts';
import { createIndex, isIndex, openIndex } from '../serving/open-index.ts';
import type { SearchDocument, SearchIndex } from '../serving/search-index.ts';

/** What is indexed, and how. */
export interface IndexOptions extends OpenEncoderOptions {
  checkpoint: string;
  data: string;
  output: string;
  /** How vectors are scanned; int8 by default. */
  codec?: string;
  /** How the best of the scan are scored again, `codec:count`, e.g. `int8:100`. */
  rescore?: string;
  /** Leading dimensions that are scanned. */
  dimensions?: number;
  /** Settings are searched for that find this share of the nearest, or that answer within so many ms, on the data's queries. */
  recall?: number;
  ms?: number;
  /** Whether BM25 takes part where the checkpoint has lexical.json; true by default. */
  lexical?: boolean;
}

/** What the index holds now. */
export interface IndexReport {
  output: string;
  /** In the index now; embedded by this call; there before. */
  documents: number;
  added: number;
  kept: number;
  /** Bytes of the encoded vectors. */
  bytes: number;
  hybrid: boolean;
  settings: IndexSettings;
  /** How the settings were found, where they were. */
  tuned?: Tuned;
}

/**
 * Makes an index, or goes on with one.
 * @throws InputError where the checkpoint or the data cannot be read, or the folder's index was made with other options
 */
export async function indexDocuments(options: IndexOptions, watch: RunControl = {}): Promise<IndexReport> {
  const { checkpoint, data, output } = options;
  const goal = goalOf(options);
  const made = await readProvenance(checkpoint);
  const dataset = await openDataset(data, made.data, watch);
  if (goal) checkQueries(dataset.queries.length);
  const index = isIndex(output) ? await goOn(options, watch) : await create(options);
  try {
    const before = index.size;
    const { added, kept } = await addDataset(index, dataset, watch);
    if (before > kept)
      watch.onProgress?.({
        stage: 'index',
        done: index.size,
        unit: 'documents',
        note: `the index holds ${before - kept} documents whose text in the data is another one or that the data lacks; those of the data were replaced, the others stay`,
      });
    if (goal && !index.tuned) await index.tune(tuningQueries(dataset), goal, watch);
    return {
      output,
      documents: index.size,
      added,
      kept,
      bytes: index.bytes,
      hybrid: index.hybrid,
      settings: index.settings,
      tuned: index.tuned,
    };
  } finally {
    await index.close();
  }
}

/** @throws InputError where both a recall and a time are asked for, or settings beside them */
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

/** Adds the documents of a data set that an index does not have with the same text. */
export async function addDataset(
  index: SearchIndex,
  dataset: Pick<Dataset, 'documents'>,
  watch: RunControl,
): Promise<{ added: number; kept: number }> {
  const { documents } = dataset;
  const missing: number[] = [];
  for (const [i, id] of documents.ids.entries()) if (index.get(id)?.text !== documents.text(i)) missing.push(i);
  const each = function* (): Generator<SearchDocument> {
    for (const i of missing) yield { id: documents.ids[i], text: documents.text(i) };
  };
  await index.add(each(), { ...watch, total: missing.length });
  return { added: missing.length, kept: documents.length - missing.length };
}

/** @throws InputError where there is no such encoding */
export function indexSettings({ codec, rescore, dimensions }: Omit<IndexOptions, 'checkpoint' | 'data' | 'output'>) {
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

function create(options: IndexOptions): Promise<SearchIndex> {
  const { checkpoint, output, lexical, dtype, queryTokens, documentTokens, documents } = options;
  const opening = { dtype, queryTokens, documentTokens, documents };
  // Settings are found on vectors as they are, once all are there.
  const settings: IndexSettings = goalOf(options) ? { codec: 'float32' } : indexSettings(options);
  return createIndex(output, { encoder: checkpoint, settings, lexical, ...opening });
}

/** @throws InputError where the index in the folder was made with other options */
async function goOn(options: IndexOptions, watch: RunControl): Promise<SearchIndex> {
  const { checkpoint, output, codec, rescore, dimensions, lexical } = options;
  const index = await openIndex(output, { ...watch, encoder: checkpoint, documents: options.documents });
  const other = (what: string): InputError =>
    new InputError({
      code: 'index.other',
      subject: `${output} holds an index made with ${what}`,
      remedy: 'give the same options, or name another folder',
    });
  try {
    if (codec !== undefined || rescore !== undefined || dimensions !== undefined) {
      const wanted = JSON.stringify(indexSettings(options));
      const found = JSON.stringify(index.settings);
      if (wanted !== found) throw other(`the settings ${found}, and ${wanted} are asked for`);
    }
    const goal = goalOf(options);
    const { tuned } = index;
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
    const { dtype, queryTokens, documentTokens, documents } = options;
    if (dtype !== undefined || queryTokens !== undefined || documentTokens !== undefined) {
      const wanted = await openEncoder(checkpoint, { dtype, queryTokens, documentTokens, documents });
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
