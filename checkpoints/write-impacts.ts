/** @file Writes a sparse student's documents and queries as impact files, which Lucene (Anserini) and OpenSearch index. */
import { createWriteStream } from 'node:fs';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { InputError } from '../common/errors.ts';
import { writeWhole } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import { judgedQueries } from '../data/dataset.ts';
import { openAsRun, splitFor } from '../data/open.ts';
import { openSparseFolder } from '../models/sparse/sparse-folder.ts';
import {
  DOCUMENT_FACTOR,
  documentLine,
  QUERY_FACTOR,
  queryLine,
  wholeImpacts,
} from '../retrieval/sparse/impact-files.ts';
import { readProvenance } from '../serving/encoder/checkpoint.ts';

export interface ImpactOptions {
  /** Folder of a sparse student. */
  student: string;
  data: string;
  output: string;
  /** Whose queries are written; test by default. */
  split?: string;
  /** A document's weights are multiplied by this and rounded. */
  factor?: number;
  /** Whether the documents' texts are written too; false by default. */
  contents?: boolean;
}

export interface ImpactReport {
  documents: number;
  queries: number;
  /** Whole numbers above 0. */
  postings: number;
  files: string[];
}

/** Documents written at a time. */
const PART = 1024;

/**
 * OUTPUT/documents.jsonl as Anserini's JsonVectorCollection reads it, OUTPUT/queries.tsv (tokens repeated by their weights x 10) and
 * OUTPUT/idf.json (token to weight, as OpenSearch's tokenizer of sparse queries and sentence-transformers read it).
 * @throws InputError where the folder is no sparse student or the factor is not above 0
 */
export async function writeImpacts(options: ImpactOptions, watch: RunControl = {}): Promise<ImpactReport> {
  const { student, output, factor = DOCUMENT_FACTOR } = options;
  if (!(factor > 0 && Number.isFinite(factor)))
    throw new InputError({
      code: 'impacts.factor',
      subject: 'the factor of impacts',
      expected: 'a number above 0',
      received: String(factor),
      remedy: 'give 100, or leave it out',
    });
  const { encoder, queryTokens, documentTokens } = await openSparseFolder(student);
  try {
    const { data } = await readProvenance(student);
    const split = splitFor(options.split, 'test', data.splits, watch);
    const dataset = await openAsRun(options.data, data, [split], watch);
    const { documents } = dataset;
    const tokens = await tokenNames(student);
    const tokenOf = (id: number): string => tokens.get(id) ?? `[${id}]`;
    await mkdir(output, { recursive: true });
    const files = ['documents.jsonl', 'queries.tsv', 'idf.json'].map((name) => join(output, name));
    let postings = 0;
    async function* lines(): AsyncGenerator<string> {
      for (let from = 0; from < documents.length; from += PART) {
        const length = Math.min(PART, documents.length - from);
        const part = { length, text: (i: number) => documents.text(from + i) };
        const quiet = { signal: watch.signal, memory: watch.memory, maxLength: documentTokens };
        const { offsets, ids, weights } = await encoder.documents(part, quiet);
        for (let i = 0; i < length; i++) {
          const [a, b] = [offsets[i], offsets[i + 1]];
          const own = { ids: ids.subarray(a, b), weights: weights.subarray(a, b) };
          const vector = wholeImpacts(own, tokenOf, factor);
          postings += Object.keys(vector).length;
          yield documentLine(documents.ids[from + i], options.contents ? part.text(i) : '', vector);
        }
        watch.onProgress?.({ stage: 'impacts', done: from + length, total: documents.length, unit: 'documents' });
      }
    }
    // The whole file or none: a reader must not take a part of a collection for all of it.
    const partial = `${files[0]}.partial`;
    try {
      await pipeline(lines(), createWriteStream(partial));
      await rename(partial, files[0]);
    } finally {
      await rm(partial, { force: true });
    }
    const queries = judgedQueries(dataset, split);
    const topic = (q: number): string =>
      queryLine(
        dataset.queries.ids[q],
        wholeImpacts(encoder.query(dataset.queries.text(q), queryTokens), tokenOf, QUERY_FACTOR),
      );
    await writeWhole(files[1], queries.map(topic).join(''));
    const table = Array.from(encoder.queryTable.entries()).flatMap(([id, weight]) =>
      weight ? [[tokenOf(id), Number(weight.toFixed(6))] as const] : [],
    );
    await writeWhole(files[2], `${JSON.stringify(Object.fromEntries(table))}\n`);
    return { documents: documents.length, queries: queries.length, postings, files };
  } finally {
    await encoder.dispose();
  }
}

/** Tokens by id, as tokenizer.json spells them. */
async function tokenNames(folder: string): Promise<Map<number, string>> {
  const { model = {}, added_tokens: added = [] } = JSON.parse(await readFile(join(folder, 'tokenizer.json'), 'utf8'));
  const vocabulary = model.vocab as Record<string, number> | [string, number][] | undefined;
  const names = Array.isArray(vocabulary)
    ? vocabulary.map(([token], id): [number, string] => [id, token])
    : Object.entries(vocabulary ?? {}).map(([token, id]): [number, string] => [id, token]);
  return new Map([
    ...names,
    ...(added as { id: number; content: string }[]).map((t): [number, string] => [t.id, t.content]),
  ]);
}
