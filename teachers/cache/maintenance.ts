/** @file Maintenance of a cache: lists, verifies, repairs and prunes it. */
import { existsSync } from 'node:fs';
import { rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { syncEntry } from '../../common/replace.ts';
import { endsReading } from './open-check.ts';
import { alone, DATA, isWhole, partsOfKey, RecordStore, type Source, type StoredRecord } from './record-store.ts';
import { salvage } from './recovery.ts';

/** A teacher's share of a cache. */
export interface Tally extends Partial<Source> {
  /** What records call it. */
  id: string;
  scores: number;
  embeddings: number;
  /** Of keys and values, without the store's own. */
  bytes: number;
}

export interface Damage {
  /** Hex. */
  key: string;
  teacher: string;
  kind: string;
}

export interface CacheSurvey {
  folder: string;
  /** Of the file. */
  bytes: number;
  tallies: Tally[];
  damaged: Damage[];
  /** The store's error if it cannot be read completely; unread records are not counted. */
  unreadable?: string;
}

/** Bytes that LMDB keeps for each record in addition to key and value. */
const NODE_BYTES = 10;
/** Records copied in one transaction. */
const BATCH = 10_000;

/** Every record, as far as the store can be read through. @param fail called with the reason why it cannot */
function* everyRecord({ records }: RecordStore, fail: (why: string) => void): Generator<StoredRecord> {
  let shown = 0;
  try {
    for (const { key, value } of records.getRange()) {
      yield { key, value };
      shown++;
    }
    const { entryCount } = records.getStats() as { entryCount: number };
    if (shown !== entryCount) fail(`it holds ${entryCount} records and shows ${shown}`);
  } catch (error) {
    fail((error as Error).message);
  }
}

/** Counts what a cache holds. @param check whether every value's checksum is computed too */
export async function survey(folder: string, check = false): Promise<CacheSurvey> {
  const store = await existing(folder);
  try {
    const sources = sourcesOf(store);
    const tallies = new Map<string, Tally>();
    const damaged: Damage[] = [];
    let unreadable: string | undefined;
    for (const { key, value } of everyRecord(store, (why) => {
      unreadable = why;
    })) {
      const { source, kind } = partsOfKey(key);
      const tally = tallies.get(source) ?? { id: source, ...sources.get(source), scores: 0, embeddings: 0, bytes: 0 };
      tallies.set(source, tally);
      if (kind === 'score') tally.scores++;
      else tally.embeddings++;
      tally.bytes += key.length + value.length + NODE_BYTES;
      if (check && !isWhole(key, value))
        damaged.push({
          key: key.toString('hex'),
          teacher: tally.name ?? `(${source})`,
          kind: kind ?? 'unknown',
        });
    }
    const bytes = (await stat(join(folder, DATA))).size;
    return { folder, bytes, tallies: [...tallies.values()], damaged, unreadable };
  } finally {
    await store.close();
  }
}

/**
 * Checks every record, and on request rewrites the store with the intact ones: the others are computed again when a run needs
 * them. A store whose structure is damaged is taken apart page by page.
 *
 * @throws InputError if there is no cache, or another process has open the one to be repaired
 */
export async function verify(folder: string, repair = false): Promise<CacheSurvey> {
  refuseMissing(folder);
  const ended = await endsReading(folder);
  const found: CacheSurvey = ended
    ? { folder, bytes: (await stat(join(folder, DATA))).size, tallies: [], damaged: [], unreadable: ended }
    : await survey(folder, true);
  if (repair && found.unreadable)
    await alone(folder, () => replaceStore(folder, (to) => copyRecords(salvage(folder), to)));
  else if (repair && found.damaged.length)
    await alone(folder, () => rebuild(folder, ({ key, value }) => isWhole(key, value)));
  return found;
}

export interface PruneOptions {
  /** Milliseconds since 1970: teachers last used before are removed. */
  before?: number;
  /** Bytes: teachers are removed, least recently used first, until the rest fits. */
  size?: number;
}

export interface Pruned {
  removed: Tally[];
  kept: Tally[];
  /** Of the file. */
  bytes: { before: number; after: number };
}

/** @throws InputError if there is no cache or another process has it open */
export async function prune(folder: string, { before, size }: PruneOptions): Promise<Pruned> {
  const { tallies, bytes } = await survey(folder);
  const byUse = [...tallies].sort((a, b) => (a.used ?? 0) - (b.used ?? 0));
  let left = byUse.reduce((sum, t) => sum + t.bytes, 0);
  const removed: Tally[] = [];
  for (const tally of byUse) {
    const old = before !== undefined && (tally.used ?? 0) < before;
    const large = size !== undefined && left > size;
    if (!old && !large) continue;
    removed.push(tally);
    left -= tally.bytes;
  }
  const gone = new Set(removed.map((t) => t.id));
  if (gone.size) await alone(folder, () => rebuild(folder, ({ key }) => !gone.has(partsOfKey(key).source)));
  const after = (await stat(join(folder, DATA))).size;
  return { removed, kept: tallies.filter((t) => !gone.has(t.id)), bytes: { before: bytes, after } };
}

function refuseMissing(folder: string): void {
  if (!existsSync(join(folder, DATA)))
    throw new InputError({
      code: 'cache.missing',
      subject: `there is no cache in ${folder}`,
      remedy: "give the folder named under 'cache' in the config with --folder",
    });
}

async function existing(folder: string): Promise<RecordStore> {
  refuseMissing(folder);
  return RecordStore.open(folder);
}

/** Teachers by what records call them; an entry that cannot be read is left out. */
function sourcesOf(store: RecordStore): Map<string, Source> {
  const found = new Map<string, Source>();
  try {
    for (const { key, value } of store.sources.getRange()) if (value?.name) found.set(key, value);
  } catch {}
  return found;
}

/** Rewrites the store with some of its records. */
async function rebuild(folder: string, keep: (record: StoredRecord) => boolean): Promise<void> {
  await replaceStore(folder, async (to) => {
    const from = await RecordStore.open(folder);
    try {
      const seen = await copyRecords(
        everyRecord(from, () => {}),
        to,
        keep,
      );
      for (const [id, source] of sourcesOf(from)) if (seen.has(id)) to.copySource(id, source);
    } finally {
      await from.close();
    }
  });
}

/** @returns what the copied records call their teachers */
async function copyRecords(
  records: Iterable<StoredRecord>,
  to: RecordStore,
  keep: (record: StoredRecord) => boolean = () => true,
): Promise<Set<string>> {
  const seen = new Set<string>();
  let batch: StoredRecord[] = [];
  for (const record of records) {
    if (!keep(record)) continue;
    seen.add(partsOfKey(record.key).source);
    batch.push(record);
    if (batch.length < BATCH) continue;
    await to.copyIn(batch);
    batch = [];
  }
  await to.copyIn(batch);
  return seen;
}

/** Puts another store in the place of one: a kill leaves the old file or the new one. */
async function replaceStore(folder: string, fill: (to: RecordStore) => Promise<unknown>): Promise<void> {
  const rebuilt = join(folder, 'rebuilt');
  await rm(rebuilt, { recursive: true, force: true });
  const to = await RecordStore.open(rebuilt);
  try {
    await fill(to);
  } finally {
    await to.close();
  }
  await syncEntry(join(rebuilt, DATA));
  // Nobody has the store open, so that its table of readers can be made again.
  await rm(join(folder, 'lock.mdb'), { force: true });
  await rename(join(rebuilt, DATA), join(folder, DATA));
  await syncEntry(folder);
  await rm(rebuilt, { recursive: true, force: true });
}
