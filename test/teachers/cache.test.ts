/** @file The store behind the cache: what is damaged is never served, is named and goes; what is newer is refused; what is old goes. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { open } from 'lmdb';
import { describe, expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import { prune, survey, verify } from '../../teachers/cache/maintenance.ts';
import { recordKey, sourceId } from '../../teachers/cache/record-store.ts';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import type { Pair, Teacher } from '../../teachers/teacher.ts';
import { distill } from '../cli/world.ts';

const place = (): string => join(mkdtempSync(join(tmpdir(), 'cache-')), 'cache.v2');

/** Wide enough that some vectors have pages of their own in the store. */
const WIDTH = 800;
/** Exactly representable, so that what is served can be compared bit by bit. */
const scoreOf = (name: string, { query, document }: Pick<Pair, 'query' | 'document'>): number =>
  Math.fround(Math.sin(crc32(`${name} ${query} ${document}`)));
const vectorOf = (text: string): Float32Array =>
  Float32Array.from({ length: WIDTH }, (_, k) => Math.sin(crc32(text) + k));

interface Counting extends Teacher {
  asked: number;
}
function teacherOf(name: string): Counting {
  const teacher: Counting = {
    name,
    kind: 'cross-encoder',
    key: `key of ${name}`,
    tokenizer: 'f00dcafe'.repeat(8),
    asked: 0,
    async score(pairs) {
      teacher.asked += pairs.length;
      return Float32Array.from(pairs, (p) => scoreOf(name, p));
    },
    async embed(texts) {
      const all = texts as readonly string[];
      teacher.asked += all.length;
      const data = new Float32Array(all.length * WIDTH);
      for (const [i, t] of all.entries()) data.set(vectorOf(t), i * WIDTH);
      return { dimensions: WIDTH, data };
    },
    dispose: async () => {},
  };
  return teacher;
}

const pairs: Pair[] = Array.from({ length: 1500 }, (_, i) => ({
  queryId: `q${i}`,
  documentId: `d${i}`,
  query: `query ${i % 40}`,
  document: `document ${i}`,
}));
const texts = pairs.slice(0, 60).map((p) => p.document);

/** A store with scores of two teachers and embeddings of one. */
async function filled(): Promise<string> {
  const folder = place();
  const cache = await ScoreCache.open(folder);
  await cache.wrap(teacherOf('first')).score(pairs);
  await cache.wrap(teacherOf('second')).score(pairs.slice(0, 300));
  await cache.wrap(teacherOf('second')).embed?.(texts, 'document');
  await cache.close();
  return folder;
}

/** Every value of `first` as the cache gives it, compared with what is right. @returns how many were asked for again */
async function askAgain(folder: string): Promise<number> {
  const cache = await ScoreCache.open(folder);
  try {
    const [first, second] = [teacherOf('first'), teacherOf('second')];
    expect(await cache.wrap(first).score(pairs)).toEqual(Float32Array.from(pairs, (p) => scoreOf('first', p)));
    const embedded = await cache.wrap(second).embed?.(texts, 'document');
    for (const [i, t] of texts.entries())
      expect(embedded?.data.subarray(i * WIDTH, (i + 1) * WIDTH)).toEqual(vectorOf(t));
    return first.asked + second.asked;
  } finally {
    await cache.close();
  }
}

/** Flips a bit in the stored value of a score, wherever the file has it. */
function flipScore(folder: string, pair: Pair): void {
  const file = join(folder, 'data.mdb');
  const bytes = readFileSync(file);
  const key = recordKey('key of first', sourceId('key of first'), 'score', pair.query, pair.document);
  let found = 0;
  // Pages that are not in use any more may hold the record too.
  for (let at = bytes.indexOf(key); at >= 0; at = bytes.indexOf(key, at + 1)) {
    bytes[at + key.length + 6] ^= 4;
    found++;
  }
  expect(found).toBeGreaterThan(0);
  writeFileSync(file, bytes);
}

test('bit flips in values are named, not served, and removed by repair; a run makes them again and says so', async () => {
  const folder = await filled();
  expect((await verify(folder)).damaged).toEqual([]);
  for (const i of [3, 700, 1400]) flipScore(folder, pairs[i]);

  const found = await verify(folder);
  const key = recordKey('key of first', sourceId('key of first'), 'score', pairs[3].query, pairs[3].document);
  expect(found.damaged).toHaveLength(3);
  expect(found.damaged).toContainEqual({ key: key.toString('hex'), teacher: 'first', kind: 'score' });

  // Another run asks for them anew and leaves the store whole.
  const other = place();
  cpSync(folder, other, { recursive: true });
  const cache = await ScoreCache.open(other);
  const notes: string[] = [];
  const teacher = teacherOf('first');
  const scores = await cache.wrap(teacher).score(pairs, { onProgress: (p) => p.note && notes.push(p.note) });
  await cache.close();
  expect(scores).toEqual(Float32Array.from(pairs, (p) => scoreOf('first', p)));
  expect(teacher.asked).toBe(3);
  expect(notes).toContain('3 damaged values in the cache: computed again');
  expect((await verify(other)).damaged).toEqual([]);

  const said = await distill('cache', 'verify', '--folder', folder);
  expect(said.code).toBe(3);
  expect(said.out).toMatch(/1,860 records, 3 damaged\n {2}score by first, record [0-9a-f]{64}\n/);
  expect(said.err).toContain(`the cache ${folder} is damaged; remove damaged records with --repair`);
  const repaired = await distill('cache', 'verify', '--repair', '--folder', folder);
  expect(repaired).toMatchObject({ code: 0, out: expect.stringContaining('3 damaged, removed') });
  expect((await distill('cache', 'verify', '--folder', folder)).out).toContain('1,857 records, 0 damaged');
  expect(await askAgain(folder)).toBe(3);
});

const FLIPS = Number(process.env.FLIPS ?? 4);
test(`after ${FLIPS} flips anywhere in the file, repair leaves a store that is whole and serves no wrong value`, {
  timeout: 30_000 + FLIPS * 5000,
}, async () => {
  const base = await filled();
  const bytes = readFileSync(join(base, 'data.mdb'));
  const random = Random.of(3, 'flips');
  let again = 0;
  for (let k = 0; k < FLIPS; k++) {
    const folder = place();
    cpSync(base, folder, { recursive: true });
    const copy = Buffer.from(bytes);
    // The first two pages say where the store begins; a file without them is none any more.
    copy[8192 + random.integer(copy.length - 8192)] ^= 1 << random.integer(8);
    writeFileSync(join(folder, 'data.mdb'), copy);
    await verify(folder, true);
    expect(await verify(folder)).toMatchObject({ damaged: [], unreadable: undefined });
    const asked = await askAgain(folder);
    expect(asked).toBeLessThan(200);
    if (asked) again++;
  }
  expect(again).toBeGreaterThan(0);
});

test('a store whose structure is broken is said to be, and its records are found page by page', async () => {
  const folder = await filled();
  const file = join(folder, 'data.mdb');
  const bytes = readFileSync(file);
  // Offsets of nodes on every page of branches lead nowhere: LMDB cannot find its way to a leaf.
  let broken = 0;
  for (let at = 8192; at < bytes.length; at += 4096)
    if (bytes.readUInt16LE(at + 18) === 1) {
      bytes.fill(0xff, at + 24, at + 60);
      broken++;
    }
  expect(broken).toBeGreaterThan(0);
  writeFileSync(file, bytes);
  const { code, out, err } = await distill('cache', 'verify', '--folder', folder);
  expect(code).toBe(3);
  expect(out).toMatch(/a part of the store cannot be read \(.+\)/);
  expect(err).toContain('remove damaged records with --repair');
  expect((await distill('cache', 'verify', '--repair', '--folder', folder)).code).toBe(0);
  expect(await askAgain(folder)).toBe(0);
});

test('the list names teachers, tokenizers, counts, sizes and last use', async () => {
  const folder = await filled();
  const { tallies, bytes } = await survey(folder);
  expect(bytes).toBe(statSync(join(folder, 'data.mdb')).size);
  const of = (name: string) => tallies.find((t) => t.name === name);
  expect(of('first')).toMatchObject({ kind: 'cross-encoder', key: 'key of first', scores: 1500, embeddings: 0 });
  expect(of('second')).toMatchObject({ scores: 300, embeddings: 60, tokenizer: 'f00dcafe'.repeat(8) });
  expect(Date.now() - (of('first')?.used ?? 0)).toBeLessThan(60_000);
  const { out } = await distill('cache', 'list', '--folder', folder);
  expect(out).toMatch(/^first +cross-encoder +key of f +f00dcafe +1,500 +0 +0\.1 MB +\d{4}-\d\d-\d\d$/m);
  const missing = await distill('cache', 'list', '--folder', join(folder, 'nowhere'));
  expect(missing).toMatchObject({ code: 2, err: expect.stringContaining('there is no cache in') });
  expect(existsSync(join(folder, 'nowhere'))).toBe(false);
});

/** Puts the last use of a teacher into the past. */
async function unused(folder: string, name: string, days: number): Promise<void> {
  const root = open({ path: folder, noSubdir: false, maxDbs: 8 });
  const sources = root.openDB<{ used: number }, string>({ name: 'sources' });
  const id = sourceId(`key of ${name}`).toString('hex');
  sources.putSync(id, { ...(sources.get(id) as { used: number }), used: Date.now() - days * 24 * 3600 * 1000 });
  await root.close();
}

describe('prune', () => {
  test('by age: teachers that were not used go, and so does their room', async () => {
    const folder = await filled();
    await unused(folder, 'second', 40);
    const before = statSync(join(folder, 'data.mdb')).size;
    const { out, code } = await distill('cache', 'prune', '--older-than', '30d', '--folder', folder);
    expect(code).toBe(0);
    expect(out).toMatch(/^removed {2}second, last used \d{4}-\d\d-\d\d: 360 records\n360 records removed, 1,500 kept/);
    expect(statSync(join(folder, 'data.mdb')).size).toBeLessThan(before);
    expect((await survey(folder)).tallies.map((t) => t.name)).toEqual(['first']);
    expect(await askAgain(folder)).toBe(texts.length);
    expect(readdirSync(folder).sort()).toEqual(['checked', 'data.mdb', 'lock.mdb', 'users']);
  });

  test('by size: those unused the longest go first, until the rest fits', async () => {
    const folder = await filled();
    await unused(folder, 'first', 2);
    const { removed, kept } = await prune(folder, { size: 250_000 });
    expect([removed, kept].map((all) => all.map((t) => t.name))).toEqual([['first'], ['second']]);
    expect((await prune(folder, { size: 250_000 })).removed).toEqual([]);
  });

  test('not while somebody uses it, and not without being told what', async () => {
    const folder = await filled();
    const cache = await ScoreCache.open(folder);
    await expect(prune(folder, { size: 1 })).rejects.toThrow(
      `the cache ${folder} is in use by process ${process.pid}; wait for it`,
    );
    await cache.close();
    for (const [argv, says] of [
      [[], 'prune needs a limit; give --older-than 30d, --max-size 2GB or both'],
      [['--older-than', '30x'], "--older-than '30x': expected a number and one of h, d, w; e.g. --older-than 30d"],
      [['--max-size', 'large'], "--max-size 'large': expected a number and one of B, kB"],
    ] as const)
      expect(await distill('cache', 'prune', '--folder', folder, ...argv)).toMatchObject({
        code: 2,
        err: expect.stringContaining(says),
      });
    expect((await survey(folder)).tallies).toHaveLength(2);
  });
});

test('a store of a newer version is refused and left as it is', async () => {
  const folder = await filled();
  const root = open({ path: folder, noSubdir: false, maxDbs: 8 });
  root.openDB<number, string>({ name: 'meta' }).putSync('version', 3);
  await root.close();
  const before = readFileSync(join(folder, 'data.mdb'));
  const { code, err } = await distill('cache', 'list', '--folder', folder);
  expect(code).toBe(2);
  expect(err).toContain(
    `the cache ${folder} was written by a newer version (layout 3): expected layout 2; update onnx-distill or choose another folder under cache`,
  );
  expect(readFileSync(join(folder, 'data.mdb')).equals(before)).toBe(true);
});

test('a store of layout 1 is refused with the remedy and left as it is', async () => {
  const folder = place();
  const root = open({ path: folder, noSubdir: false, maxDbs: 8 });
  root.openDB<number, string>({ name: 'meta' }).putSync('version', 1);
  await root.close();
  const before = readFileSync(join(folder, 'data.mdb'));
  await expect(ScoreCache.open(folder)).rejects.toThrow(
    `the cache ${folder} was written by a version before the first release (layout 1): expected layout 2; remove the folder or choose another one under 'cache'; the teacher scores again`,
  );
  const { code } = await distill('cache', 'verify', '--folder', folder);
  expect(code).toBe(2);
  expect(readFileSync(join(folder, 'data.mdb')).equals(before)).toBe(true);
});
