/** @file Postings of a part as a file: the lists, and behind them the tables that are read when it is opened. */
import { createHash, randomUUID } from 'node:crypto';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { writeFrom } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import { damaged } from './checked-files.ts';
import { OpenFile } from './open-file.ts';
import {
  inMemory,
  joinedLists,
  type Moved,
  Postings,
  PostingsBuilder,
  type PostingTables,
  postingsOf,
  type TermCounts,
} from './postings.ts';
import { openChecked, readRuns, sizeOfRuns, writeAll, writeRuns } from './runs.ts';

/** What the manifest says of the file. */
export interface PostingsAt {
  readonly name: string;
  /** sha256 of the tables. */
  readonly hash: string;
  /** Bytes of the lists, which are before the tables, and of the whole file. */
  readonly lists: number;
  readonly bytes: number;
}

const names = ['lengths', 'terms', 'termStarts', 'counts', 'widths', 'listStarts', 'sums'] as const;
/** Bytes of lists that are written at a time. */
const BLOCK = 1 << 22;

/** Writes postings of a part, those of several joined. */
export async function writePostings(
  folder: string,
  documents: number,
  moved: readonly Moved[],
): Promise<{ postings: Postings; at: PostingsAt }> {
  const name = `terms-${randomUUID()}.bin`;
  const path = join(folder, name);
  const builder = new PostingsBuilder(documents);
  const sum = createHash('sha256');
  let tables: PostingTables | undefined;
  await writeFrom(path, async (temporary) => {
    const file = await open(temporary, 'w');
    try {
      let waiting: Buffer[] = [];
      let size = 0;
      for (const [term, places, values] of joinedLists(moved)) {
        const bytes = builder.add(term, places, values);
        waiting.push(bytes);
        size += bytes.length;
        if (size < BLOCK) continue;
        await writeAll(file, Buffer.concat(waiting));
        [waiting, size] = [[], 0];
      }
      await writeAll(file, Buffer.concat(waiting));
      const own = builder.tables();
      tables = own;
      await writeRuns(
        file,
        names.map((n) => own[n]),
        sum,
      );
    } finally {
      await file.close();
    }
  });
  const own = tables as PostingTables;
  const lists = builder.bytes;
  const at = { name, hash: sum.digest('hex'), lists, bytes: lists + sizeOfRuns(names.map((n) => own[n])) };
  return { postings: new Postings(own, new OpenFile(path)), at };
}

/** Opens postings of so many documents. @throws InputError where the file cannot be read, or is not the one that was written */
export async function readPostings(folder: string, file: PostingsAt, documents: number): Promise<Postings> {
  const path = join(folder, file.name);
  return openChecked(path, file.bytes, async (handle, kept) => {
    const runs = await readRuns(handle, path, { from: file.lists, to: file.bytes, hash: file.hash });
    const [lengths, terms, termStarts, counts, widths, listStarts, sums] = runs;
    const tables: PostingTables = {
      lengths: new Uint32Array(lengths.buffer),
      terms: terms as Uint8Array<ArrayBuffer>,
      termStarts: new Uint32Array(termStarts.buffer),
      counts: new Uint32Array(counts.buffer),
      widths,
      listStarts: new Float64Array(listStarts.buffer),
      sums: new Uint32Array(sums.buffer),
    };
    if (tables.lengths.length !== documents)
      throw damaged(`${path} has the postings of ${tables.lengths.length} documents, expected ${documents}`);
    return new Postings(tables, kept);
  });
}

/** Documents whose postings are made at a time, where those of a whole part are. */
const CHUNK = 65_536;
const YIELD_EVERY = 2048;

/** Postings of the documents of a part, in chunks that are joined when they are written. */
export async function postingChunks<T>(
  documents: Iterable<T>,
  count: number,
  termsOf: (document: T) => TermCounts,
  watch: Pick<RunControl, 'signal'> & { onDone?: (documents: number) => void },
): Promise<Moved[]> {
  const chunks: Moved[] = [];
  let rows: TermCounts[] = [];
  let done = 0;
  const put = (): void => {
    const first = done - rows.length;
    chunks.push({ postings: postingsOf(rows), rows: Int32Array.from(rows, (_, i) => first + i) });
    rows = [];
  };
  for (const document of documents) {
    rows.push(termsOf(document));
    done++;
    if (rows.length === CHUNK || done === count) put();
    if (done % YIELD_EVERY) continue;
    await setImmediate();
    watch.signal?.throwIfAborted();
    watch.onDone?.(done);
  }
  return chunks;
}

/** Postings of chunks in memory, where no file can be written. */
export const joinedInMemory = (documents: number, moved: readonly Moved[]): Postings =>
  inMemory(documents, joinedLists(moved));
