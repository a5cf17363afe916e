import fc from 'fast-check';
import { expect, test } from 'vitest';
import { chunkByLength, groupByLength, type TokenBatch } from '../../training/batches/length-groups.ts';

/** A padded batch of texts, each a list of ids. */
function batchOf(texts: readonly (readonly number[])[]): TokenBatch {
  const length = Math.max(1, ...texts.map((t) => t.length));
  const at = (f: (t: readonly number[], i: number) => number): BigInt64Array =>
    BigInt64Array.from(texts.flatMap((t) => Array.from({ length }, (_, i) => BigInt(f(t, i)))));
  return {
    rows: texts.length,
    length,
    ids: at((t, i) => t[i] ?? 99),
    mask: at((t, i) => Number(i < t.length)),
    typeIds: at(() => 0),
  };
}

/** The ids of row r of all groups, padding left out. */
function textAt(groups: readonly TokenBatch[], row: number): number[] {
  let r = row;
  for (const g of groups) {
    if (r < g.rows) {
      const own = [...g.ids.subarray(r * g.length, (r + 1) * g.length)];
      return own.filter((_, i) => g.mask[r * g.length + i]).map(Number);
    }
    r -= g.rows;
  }
  throw new Error(`no row ${row}`);
}

const texts = fc.array(fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 9 }), {
  minLength: 1,
  maxLength: 12,
});

test('every row finds its text again, equal texts share a row, and no group is missing', () => {
  fc.assert(
    fc.property(texts, texts, fc.integer({ min: 1, max: 7 }), fc.boolean(), (a, b, n, chunked) => {
      const batches = [batchOf(a), batchOf(b)];
      const { groups, places } = chunked ? chunkByLength(batches, n, 99) : groupByLength(batches, n, 99);
      if (chunked) expect(groups.every((g) => g.rows <= n)).toBe(true);
      else expect(groups).toHaveLength(n);
      for (const [batch, own] of [a, b].entries())
        for (const [r, text] of own.entries()) expect(textAt(groups, Number(places[batch][r]))).toEqual(text);
      const different = new Set([...a, ...b].map((t) => t.join())).size;
      expect(new Set(places.flatMap((p) => [...p])).size).toBe(different);
      for (const g of groups) expect(g.ids.every((id, i) => g.mask[i] === 1n || id === 99n)).toBe(true);
    }),
  );
});

test('equal lengths are parted evenly, unequal ones where little is padded', () => {
  const of = (lengths: number[]) => batchOf(lengths.map((n, i) => Array.from({ length: n }, (_, k) => 1000 * i + k)));
  const sizes = (lengths: number[], groups: number) =>
    groupByLength([of(lengths)], groups, 0).groups.map((g) => `${g.rows} x ${g.length}`);
  expect(sizes(Array(12).fill(8), 3)).toEqual(['4 x 8', '4 x 8', '4 x 8']);
  expect(sizes([5, 60, 6, 61, 5, 6, 58, 5], 2)).toEqual(['5 x 6', '3 x 61']);
});
