/** @file Documents to an index in batches: checked, embedded, written; and queries to vectors that can be searched by. */
import { FaultError, InputError, shown } from '../../common/errors.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Texts } from '../../data/dataset.ts';
import { firstNotFinite } from '../../math/finite.ts';
import { type IdLimits, idCheck } from '../../retrieval/document-rows.ts';
import type { OpenEncoder } from '../encoder/encoder.ts';
import type { SearchDocument } from './document-index.ts';
import { MOST_LEVELS, nestsTooDeep } from './json-values.ts';

/** Documents embedded at a time, and written together: what a kill costs. */
export const BATCH = 1024;

/** What the place of the documents asks of them. */
export interface Place {
  /** What ids it can hold. */
  ids?: IdLimits;
  /** A checked document as it is embedded and written. */
  held?(document: SearchDocument): SearchDocument;
}

/**
 * Each batch is checked before it is encoded; documents that are given as a list are checked before the first batch is.
 * @param encode what is written of some texts: vectors [n, dimensions], or lists of token weights
 * @param put writes a batch with what was encoded
 * @throws InputError for a document without an id or a text, or an id that stands twice or cannot be held
 */
export async function addInBatches<T>(
  documents: Iterable<SearchDocument>,
  encode: (texts: Texts, watch: RunControl) => Promise<T>,
  put: (batch: readonly SearchDocument[], encoded: T) => Promise<void>,
  watch: RunControl & { total?: number },
  { ids, held = (document) => document }: Place = {},
): Promise<void> {
  const work = { stage: 'index', unit: 'documents' };
  const { total, onProgress, ...rest } = watch;
  let done = 0;
  const write = async (batch: readonly SearchDocument[]): Promise<void> => {
    const texts = { length: batch.length, ids: batch.map((d) => d.id), text: (i: number) => batch[i].text };
    const encoded = await encode(texts, {
      ...rest,
      onProgress: onProgress && ((p) => onProgress({ ...p, ...work, done: done + p.done, total })),
    });
    await put(batch, encoded);
    done += batch.length;
    // Equal texts are embedded once and counted once until here.
    onProgress?.({ ...work, done, total });
  };
  let batch: SearchDocument[] = [];
  const check = documentCheck(ids);
  const listed = Array.isArray(documents);
  if (listed) for (const document of documents as readonly SearchDocument[]) check(document);
  for (const document of documents) {
    watch.signal?.throwIfAborted();
    if (!listed) check(document);
    batch.push(held(document));
    if (batch.length < BATCH) continue;
    await write(batch);
    batch = [];
  }
  if (batch.length) await write(batch);
}

/** Checks one document after the other. */
function documentCheck(limits: IdLimits | undefined): (document: SearchDocument) => void {
  const checkNext = idCheck(limits);
  let at = 0;
  return ({ id, text, metadata }) => {
    const i = at++;
    if (typeof text !== 'string')
      throw new InputError({
        code: 'index.add',
        subject: `document ${typeof id === 'string' ? `'${shown(id)}'` : i} has no text`,
        expected: 'a text',
        remedy: "give every document a 'text'",
      });
    checkNext(id);
    if (nestsTooDeep(metadata))
      throw new InputError({
        code: 'index.add',
        subject: `the metadata of document '${shown(id)}' is nested more than ${MOST_LEVELS} levels deep`,
        remedy: 'keep it flatter, or leave it out',
      });
  };
}

/** @throws InputError where k is not a whole number above 0 */
export function checkCountOf(k: number): void {
  if (!Number.isInteger(k) || k < 1)
    throw new InputError({
      code: 'search.k',
      subject: `a search for ${k} documents`,
      expected: 'a whole number above 0',
    });
}

/**
 * @returns [n, dimensions]
 * @throws InputError where k is not a whole number above 0
 * @throws FaultError where a text's vector is not finite
 */
export async function queryVectors(
  encoder: OpenEncoder,
  texts: readonly string[],
  k: number,
  watch: RunControl,
): Promise<Float32Array> {
  checkCountOf(k);
  const vectors = await encoder.embedQueries(texts, watch);
  const bad = firstNotFinite(vectors);
  if (bad >= 0)
    throw new FaultError({
      code: 'search.not-finite',
      subject: `the vector of the query '${shown(texts[Math.floor(bad / encoder.dimensions)].slice(0, 60))}' is not finite`,
      remedy: 'it cannot be searched; use another file of the model, or leave the text out',
    });
  return vectors;
}

/** @throws InputError where documents would be embedded by another encoder than those that are there */
export async function checkDocumentsKey(
  encoder: Pick<OpenEncoder, 'documentsKey'>,
  expected: string,
  folder: string,
): Promise<void> {
  if ((await encoder.documentsKey()) === expected) return;
  throw new InputError({
    code: 'index.encoder',
    subject: `the encoder of documents is not the one that ${folder} was made with (its weights, tokenizer, prompts or limits differ)`,
    remedy: 'name the right checkpoint, or make the index again with distill index',
  });
}

export const unknownDocument = (id: string): InputError =>
  new InputError({
    code: 'index.unknown',
    subject: `there is no document '${id}' to replace`,
    remedy: 'add it',
  });
