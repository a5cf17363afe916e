import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { spearman } from '../../math/rank-correlation.ts';
import { freshModel } from '../../models/new-model.ts';
import { crossEncoder, crossEncoderKey } from '../../teachers/cross-encoder.ts';
import { checkedInt8, int8Key } from '../../teachers/int8.ts';
import type { Pair, Teacher } from '../../teachers/teacher.ts';

const dir = mkdtempSync(join(tmpdir(), 'int8-'));
const words = 'open file list process network packet editor text image audio video server client mail'.split(' ');
const text = (i: number): string => Array.from({ length: 3 + (i % 9) }, (_, k) => words[(i * (k + 3)) % 14]).join(' ');
const pairs: Pair[] = Array.from({ length: 40 }, (_, i) => ({
  queryId: 'q',
  documentId: `d${i}`,
  query: text(i % 5),
  document: text(i),
}));

beforeAll(() =>
  freshModel(dir, { length: 40, text }, { hidden: 32, layers: 2, heads: 2, vocabulary: 200, kind: 'cross-encoder' }),
);
afterAll(() => rmSync(dir, { recursive: true }));

test('an int8 teacher ranks as the float32 one, says how near it is and has a key of its own', async () => {
  const [whole, small] = [await crossEncoder(dir), await crossEncoder(dir, { dtype: 'int8' })];
  expect(small.key).toBe(int8Key(whole.key));
  expect(await crossEncoderKey(dir, { dtype: 'int8' })).toBe(small.key);
  const notes: string[] = [];
  const scores = await small.score(pairs, { onProgress: ({ note }) => void (note && notes.push(note)) });
  const exact = await whole.score(pairs);
  expect(scores).not.toEqual(exact);
  expect(spearman(scores, exact)).toBeGreaterThan(0.95);
  expect(notes.at(-1)).toMatch(
    /in int8 compared with float32 on 40 pairs: rank correlation 0\.9\d+, largest difference 0\.\d+ of scores/,
  );
  await Promise.all([whole.dispose(), small.dispose()]);
});

test('one whose order differs is refused, and both are closed', async () => {
  const open = new Set(['whole', 'small']);
  const teacher = (name: string, score: (i: number) => number): Teacher => ({
    name,
    kind: 'cross-encoder',
    key: 'k',
    score: async (all) => Float32Array.from(all, (_, i) => score(i)),
    dispose: async () => void open.delete(name),
  });
  const checked = checkedInt8(
    teacher('whole', (i) => i),
    teacher('small', (i) => (i % 5 === 0 ? -i : i)),
  );
  await expect(checked.score(pairs)).rejects.toThrow(
    /small ranks 40 pairs differently in int8 \(rank correlation 0\.\d+, .*remove 'teacher\.dtype'/,
  );
  await checked.dispose();
  expect(open.size).toBe(0);
});
