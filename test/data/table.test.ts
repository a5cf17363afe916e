/** @file A table of texts gives back what it was given, whatever the sizes of texts and the characters of ids. */
import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { TextTableBuilder } from '../../data/dataset.ts';
import { sameButForSpacing } from '../../data/relevant.ts';
import { Column, TextColumn } from '../../data/table/columns.ts';
import { HashIds, listOnDemand, TextIds } from '../../data/table/ids.ts';
import { Random } from '../../math/random.ts';

test('texts of every size come back from blocks: empty ones, those that end a block, those longer than one', () => {
  const column = new TextColumn();
  const block = 1 << 24;
  const sizes = [0, 5, block - 5, 0, 1, block - 2, 3, 2 * block + 7, 0, 9, block, block, 0, 1 << 17, 1];
  const texts = sizes.map((size, i) => String.fromCharCode(97 + i).repeat(size));
  for (const text of texts) column.push(text);
  expect(column.length).toBe(sizes.length);
  for (const [i, text] of texts.entries()) expect(column.text(i) === text, `text ${i}`).toBe(true);
  expect(column.text(7, 4)).toBe('hhhh');
});

test('numbers come back from blocks, before and after they are one array', () => {
  const column = new Column(Float64Array);
  const values = Float64Array.from({ length: 100_000 }, (_, i) => i * 1.5);
  for (const v of values) column.push(v);
  expect([column.at(0), column.at(32_768), column.at(99_999)]).toEqual([0, 49_152, 149_998.5]);
  expect(column.all).toEqual(values);
  column.all[7] = -1;
  expect([column.at(7), column.at(99_999), column.all.length]).toEqual([-1, 149_998.5, 100_000]);
});

test('ids come back equal and are found: any characters, half surrogate pairs, long ones', () => {
  const ids = new TextIds();
  const all = ['a', 'ä', '', '\ud800', '\udc00', '\ufffd', '\u{1f600}', 'x'.repeat(100_000), 'a\u0000b', ' a'];
  for (let i = 0; i < 5000; i++) all.push(`d${i * 7}`);
  for (const id of all) ids.add(id);
  expect(ids.length).toBe(all.length);
  for (const [i, id] of all.entries()) expect([ids.id(i) === id, ids.indexOf(id)]).toEqual([true, i]);
  for (const id of ['b', '\ud801', 'd3', 'd', 'x']) expect(ids.indexOf(id)).toBeUndefined();
});

test('of an id that is added twice the first position counts', () => {
  const builder = new TextTableBuilder();
  for (const id of ['a', 'b', 'a']) builder.add(id, 'text');
  expect([builder.put('b', 'other'), builder.put('c', 'new')]).toEqual([1, 3]);
  const table = builder.build();
  expect([[...table.ids], table.indexOf('a'), table.text(1)]).toEqual([['a', 'b', 'a', 'c'], 0, 'text']);
});

test('hashes are sorted as their digits are, and found', () => {
  const random = Random.of(0, 'ids');
  const digit = (): string => random.integer(16).toString(16);
  // Of a few beginnings, so that the words after the first decide.
  const beginnings = ['00000000', 'ffffffff', '7fffffff80000000', '80000000'];
  const all = Array.from({ length: 3000 }, (_, i) => {
    const start = i % 3 ? '' : beginnings[i % beginnings.length];
    return start + Array.from({ length: 24 - start.length }, digit).join('');
  });
  const ids = new HashIds();
  for (const id of all) ids.add(id);
  expect(ids.indexOf(all[17])).toBe(17);
  const { ids: sorted, order } = ids.sorted();
  const expected = [...all].sort();
  expect(Array.from(order, (_, i) => sorted.id(i))).toEqual(expected);
  expect(Array.from(order, (was) => all[was])).toEqual(expected);
  for (const i of [0, 1, 1500, 2999]) expect(sorted.indexOf(expected[i])).toBe(i);
  for (const id of ['', 'A'.repeat(24), '0'.repeat(24), '0'.repeat(23)]) expect(sorted.indexOf(id)).toBeUndefined();
  expect(() => ids.add('not-a-hash')).toThrow(/is not a hash of 24 digits/);
});

test('titles and metadata of some texts are of these alone', () => {
  const builder = new TextTableBuilder();
  builder.add('a', 'plain');
  builder.add('b', 'Title text', 'Title');
  builder.add('c', 'more', '', { tags: ['ä'] });
  const table = builder.build();
  expect([0, 1, 2].map((i) => table.title?.(i))).toEqual(['', 'Title', '']);
  expect([0, 1, 2].map((i) => table.metadata?.(i))).toEqual([undefined, undefined, { tags: ['ä'] }]);
});

test('a list on demand is an array in all but writing', () => {
  const list = listOnDemand(3, (i) => `id${i}`);
  const array = ['id0', 'id1', 'id2'];
  expect(list).toEqual(array);
  expect([...list]).toEqual(array);
  expect(list.map((x) => x.length)).toEqual([3, 3, 3]);
  expect([list.at(-1), list[3], list.slice(1), list.indexOf('id1'), JSON.stringify(list)]).toEqual([
    'id2',
    undefined,
    ['id1', 'id2'],
    1,
    JSON.stringify(array),
  ]);
  expect([Array.isArray(list), Object.keys(list), '1' in list, '01' in list]).toEqual([
    true,
    ['0', '1', '2'],
    true,
    false,
  ]);
  expect(() => {
    (list as string[])[0] = 'x';
  }).toThrow(TypeError);
});

test('ids beyond what a table holds are refused with the remedy', () => {
  const builder = new TextTableBuilder({ most: 10 });
  for (let i = 0; i < 10; i++) builder.add(`d${i}`, 'text');
  let refused: unknown;
  try {
    builder.add('d10', 'text');
  } catch (error) {
    refused = error;
  }
  expect(refused).toMatchObject({ code: 'data.too-large', exitCode: 2 });
  expect(String(refused)).toMatch(
    /one table has more than 10 ids: .*split the data into several folders, see docs\/scale.md/,
  );
});

test('a long text is kept as it is, its hash and its beginning those of its bytes', () => {
  const builder = new TextTableBuilder();
  // Pairs of surrogates and a half of one across the places where it is encoded in parts.
  const text = `Ä title ${'x'.repeat((1 << 20) - 9)}${'\u{1f600}é'.repeat(900_000)}\ud800 end`;
  builder.add('a', 'short');
  builder.add('b', text, 'Ä title');
  builder.add('c', 'short too');
  const table = builder.build();
  expect(table.text(1) === text.toWellFormed()).toBe(true);
  expect([table.title?.(1), table.text(0), table.text(2)]).toEqual(['Ä title', 'short', 'short too']);
  const hash = createHash('sha256');
  for (const [id, t] of [
    ['a', 'short'],
    ['b', text],
    ['c', 'short too'],
  ])
    hash.update(`${id.length}:${id}${Buffer.byteLength(t)}:${t}`);
  expect(table.hash).toBe(hash.digest('hex'));
});

test('texts that differ in white space alone are the same, of any kind of space', () => {
  const same = ['a b', ' a  b', 'a\n\tb ', '\u3000a\u00a0b\ufeff', 'a\u2003 \u2028b'];
  for (const other of same) expect(sameButForSpacing(other, 'a b'), JSON.stringify(other)).toBe(true);
  for (const other of ['ab', 'a b c', 'a', '', 'A b', 'a\u200bb']) expect(sameButForSpacing(other, 'a b')).toBe(false);
  expect(sameButForSpacing(' \n', '')).toBe(true);
});
