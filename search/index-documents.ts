/** @file Puts a data set's documents into an index folder; what is there already is not embedded again. */
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import type { Dataset } from '../data/dataset.ts';
import { openDataset } from '../data/open.ts';
import { type CodecName, codecs } from '../retrieval/codecs/index.ts';
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
}

/**
 * Makes an index, or goes on with one.
 * @throws InputError where the checkpoint or the data cannot be read, or the folder's index was made with other options
 */
export async function indexDocuments(options: IndexOptions, watch: RunControl = {}): Promise<IndexReport> {
  const { checkpoint, data, output } = options;
  const made = await readProvenance(checkpoint);
  const dataset = await openDataset(data, made.data, watch);
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
    return {
      output,
      documents: index.size,
      added,
      kept,
      bytes: index.bytes,
      hybrid: index.hybrid,
      settings: index.settings,
    };
  } finally {
    await index.close();
  }
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
  const { checkpoint, data: _, output, codec: _c, rescore: _r, dimensions: _d, lexical, ...opening } = options;
  return createIndex(output, { encoder: checkpoint, settings: indexSettings(options), lexical, ...opening });
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
