/** @file Damaged stores end no process by a signal: opened, listed and verified in a sentence or as if nothing were there. */
import { cpSync, mkdtempSync, readFileSync, statSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import { endsProcess } from '../../teachers/cache/open-check.ts';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import type { Teacher } from '../../teachers/teacher.ts';

const folder = join(mkdtempSync(join(tmpdir(), 'damaged-')), 'cache');
const pairs = Array.from({ length: 3000 }, (_, i) => ({
  queryId: `q${i}`,
  documentId: `d${i}`,
  query: `q ${i}`,
  document: `d ${i}`,
}));
const teacher: Teacher = {
  name: 't',
  kind: 'cross-encoder',
  key: 'key',
  score: async (p) => Float32Array.from(p, (_, i) => i),
  dispose: async () => {},
};
beforeAll(async () => {
  const cache = await ScoreCache.open(folder);
  await cache.wrap(teacher).score(pairs);
  await cache.close();
});

test('a store that was closed whole is not read by another process again; one that was touched is', async () => {
  const checked = readFileSync(join(folder, 'checked'), 'utf8');
  const { ino, size } = statSync(join(folder, 'data.mdb'));
  expect(checked).toContain(`${ino} ${size} `);
  const started = performance.now();
  expect(await endsProcess(folder)).toBeUndefined();
  expect(performance.now() - started).toBeLessThan(20);
  const copy = join(mkdtempSync(join(tmpdir(), 'touched-')), 'cache');
  cpSync(folder, copy, { recursive: true });
  utimesSync(join(copy, 'data.mdb'), new Date(), new Date());
  expect(await endsProcess(copy)).toBeUndefined();
});

const DAMAGES = Number(process.env.DAMAGES ?? 8);
test(`${DAMAGES} damaged stores end no process: they open, or are named with the remedy`, {
  timeout: 20_000 + 5000 * DAMAGES,
}, async () => {
  const random = Random.of(7, 'damage');
  let refused = 0;
  for (let n = 0; n < DAMAGES; n++) {
    const copy = join(mkdtempSync(join(tmpdir(), 'damage-')), 'cache');
    cpSync(folder, copy, { recursive: true });
    const file = join(copy, 'data.mdb');
    const bytes = readFileSync(file);
    const pages = bytes.length / 4096;
    if (n % 4 === 3) truncateSync(file, 4096 * (2 + random.integer(pages - 2)));
    else {
      // The two pages of the root, or whole pages of the tree, overwritten.
      const page = n % 4 === 0 ? random.integer(2) : 2 + random.integer(pages - 2);
      for (let k = 0; k < (n % 4 === 0 ? 24 : 4096); k++)
        bytes[page * 4096 + 16 + random.integer(n % 4 === 0 ? 120 : 4080)] = random.integer(256);
      writeFileSync(file, bytes);
    }
    try {
      const cache = await ScoreCache.open(copy);
      try {
        const scores = await cache.wrap(teacher).score(pairs.slice(0, 50));
        expect(scores).toHaveLength(50);
      } finally {
        await cache.close();
      }
    } catch (error) {
      refused++;
      expect((error as { code?: string }).code).toMatch(/^cache\./);
      expect((error as Error).message).toMatch(
        /; (run distill cache verify --repair|choose another folder|free space|update|remove the folder)/,
      );
    }
  }
  expect(refused).toBeGreaterThan(0);
});
