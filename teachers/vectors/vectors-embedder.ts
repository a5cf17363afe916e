/** @file Precomputed vectors as embedder: documents of an existing index, by their ids. */
import { existsSync } from 'node:fs';
import { InputError, shown } from '../../common/errors.ts';
import { hashFile, hashParts } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Texts } from '../../data/dataset.ts';
import { allFinite } from '../../math/finite.ts';
import type { Embeddings, Teacher } from '../teacher.ts';
import { readVectors } from './read-vectors.ts';

export interface VectorsOptions {
  /** Of the documents, one file or several shards in order. */
  files: string | readonly string[];
  /** Ids in the order of the vectors, a file for each of `files`; found next to them by default. */
  ids?: string | readonly string[];
  /** Of queries, where a loss matches their embeddings. */
  queries?: { files: string | readonly string[]; ids?: string | readonly string[] };
  name?: string;
}

type Kind = 'query' | 'document';
const listOf = (value: string | readonly string[] | undefined): readonly string[] =>
  value === undefined ? [] : typeof value === 'string' ? [value] : value;

/** The key of the embedder that `vectorsEmbedder` opens; a file that is not there counts as empty. */
export async function vectorsKey({ files, ids, queries }: VectorsOptions): Promise<string> {
  const hashes: string[] = [];
  for (const group of [files, ids, queries?.files, queries?.ids]) {
    hashes.push(String(listOf(group).length));
    for (const file of listOf(group)) hashes.push(existsSync(file) ? await hashFile(file) : '');
  }
  return hashParts('vectors', ...hashes);
}

/**
 * Opens files of vectors. They are read when they are first asked for and answer by id: texts are not looked at.
 * @throws InputError from its functions where a text has no vector, an id has two, or a vector is not finite
 */
export async function vectorsEmbedder(options: VectorsOptions): Promise<Teacher & Required<Pick<Teacher, 'embed'>>> {
  const sources: Record<Kind, VectorsOptions | undefined> = {
    document: options,
    query: options.queries && { ...options.queries },
  };
  const tables = new Map<Kind, Promise<Table>>();
  const table = (kind: Kind, ids: readonly string[], watch: RunControl): Promise<Table> => {
    const source = sources[kind];
    if (!source)
      throw new InputError({
        code: 'vectors.no-queries',
        subject: 'the embedder is a file of document vectors, and vectors of queries are asked for',
        remedy:
          "name them under 'embedder.queries.files', or use losses and options that need no query embeddings (info-nce, kl over the frozen documents)",
      });
    const known = tables.get(kind) ?? readTable(source, ids, kind, watch);
    tables.set(kind, known);
    return known;
  };
  const name = options.name ?? listOf(options.files).join(', ');
  const embedder: Teacher & Required<Pick<Teacher, 'embed'>> = {
    name,
    kind: 'vectors',
    key: await vectorsKey(options),
    async embed(texts, kind, watch = {}) {
      watch.signal?.throwIfAborted();
      const ids = Array.isArray(texts) ? undefined : (texts as Texts).ids;
      if (!ids)
        throw new InputError({
          code: 'vectors.no-ids',
          subject: `${name} holds vectors by id, and texts without ids are to be embedded`,
          remedy: 'use an embedder that is a model or a service for this option',
        });
      const { columns, data, place } = await table(kind, ids, watch);
      const out: Embeddings = { dimensions: columns, data: new Float32Array(ids.length * columns) };
      const missing: string[] = [];
      for (const [i, id] of ids.entries()) {
        const at = place.get(id);
        if (at === undefined) missing.push(id);
        else out.data.set(data.subarray(at * columns, (at + 1) * columns), i * columns);
      }
      if (missing.length)
        throw new InputError({
          code: 'vectors.missing-ids',
          subject: `${missing.length} of ${ids.length} ${kind === 'query' ? 'queries' : 'documents'} have no vector in ${name}, the first being '${shown(missing[0])}'`,
          remedy: 'add their vectors, or remove them from the data',
        });
      const done = ids.length;
      watch.onProgress?.({ stage: `read ${kind} vectors`, done, total: done, unit: 'texts' });
      return out;
    },
    async score(pairs, watch = {}) {
      watch.signal?.throwIfAborted();
      const by = async (kind: Kind, ids: string[]) => embedder.embed({ length: ids.length, ids, text: () => '' }, kind);
      const q = await by(
        'query',
        pairs.map((p) => p.queryId),
      );
      const d = await by(
        'document',
        pairs.map((p) => p.documentId),
      );
      if (q.dimensions !== d.dimensions && pairs.length)
        throw new InputError({
          code: 'vectors.width',
          subject: `vectors of queries have ${q.dimensions} components and those of documents ${d.dimensions}`,
          remedy: 'give vectors of one model',
        });
      watch.onProgress?.({ stage: 'score', done: pairs.length, total: pairs.length, unit: 'pairs' });
      return Float32Array.from(pairs, (_, i) => {
        let dot = 0;
        for (let k = i * q.dimensions; k < (i + 1) * q.dimensions; k++) dot += q.data[k] * d.data[k];
        return dot;
      });
    },
    dispose: async () => tables.clear(),
  };
  return embedder;
}

interface Table {
  columns: number;
  data: Float32Array;
  place: Map<string, number>;
}

async function readTable(
  { files: given, ids: idFiles }: VectorsOptions,
  wanted: readonly string[],
  kind: Kind,
  watch: RunControl,
): Promise<Table> {
  const files = listOf(given);
  const named = listOf(idFiles);
  const what = kind === 'query' ? 'queries' : 'documents';
  if (named.length && named.length !== files.length)
    throw new InputError({
      code: 'vectors.ids',
      subject: `${files.length} files of vectors and ${named.length} of ids`,
      remedy: "name one file of ids for each file of vectors under 'ids'",
    });
  const parts = [];
  for (const [i, file] of files.entries()) {
    watch.signal?.throwIfAborted();
    const part = await readVectors(file, named[i]);
    if (part.ids && part.ids.length !== part.rows)
      throw new InputError({
        code: 'vectors.ids',
        subject: `${part.from} has ${part.ids.length} ids and ${file} has ${part.rows} vectors`,
        remedy: 'write them together again',
      });
    if (parts.length && part.columns !== parts[0].columns)
      throw new InputError({
        code: 'vectors.width',
        subject: `the vectors of ${file} have ${part.columns} components and those of ${files[0]} ${parts[0].columns}`,
        remedy: 'give vectors of one model',
      });
    parts.push({ ...part, file });
  }
  const columns = parts[0]?.columns ?? 0;
  const rows = parts.reduce((n, p) => n + p.rows, 0);
  const note = (text: string): void =>
    watch.onProgress?.({ stage: `read ${kind} vectors`, done: 0, unit: 'texts', note: text });
  const without = parts.find((p) => !p.ids);
  if (without) {
    if (rows !== wanted.length || parts.some((p) => p.ids))
      throw new InputError({
        code: 'vectors.ids',
        subject: `${without.file} has no ids, and ${rows} vectors cannot be matched with ${wanted.length} ${what} by their order`,
        remedy: `write the ids, one a line, to ${without.file.replace(/\.[^.]+$/, '')}.ids.txt`,
      });
    note(`${without.file} has no ids: its vectors are taken to be in the order of the ${what}`);
  }
  const data = new Float32Array(rows * columns);
  const place = new Map<string, number>();
  let at = 0;
  for (const part of parts) {
    data.set(part.data, at * columns);
    for (let i = 0; i < part.rows; i++, at++) {
      const id = part.ids ? part.ids[i] : wanted[at];
      if (place.has(id))
        throw new InputError({
          code: 'vectors.ids',
          subject: `the id '${shown(id)}' has two vectors in ${part.file}${parts.length > 1 ? ' and the files before it' : ''}`,
          remedy: 'keep one',
        });
      if (!allFinite(data.subarray(at * columns, (at + 1) * columns)))
        throw new InputError({
          code: 'vectors.not-finite',
          subject: `the vector of '${shown(id)}' in ${part.file} holds a number that is not finite as float32`,
          remedy: 'embed that text again',
        });
      place.set(id, at);
    }
  }
  const known = new Set(wanted);
  const extra = rows - [...place.keys()].filter((id) => known.has(id)).length;
  if (kind === 'document' && extra)
    note(`${extra} of ${rows} vectors belong to no document of the data and are left out`);
  return { columns, data, place };
}
