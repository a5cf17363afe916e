/** @file Arrow files and folders that `datasets` saves. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Field, Float64, List, Table, tableFromJSON, tableToIPC, Utf8, vectorFromArray } from 'apache-arrow';
import { describe, expect, test } from 'vitest';
import { readRows } from '../../data/files/rows.ts';
import { dataKind, openDataset } from '../../data/open.ts';

function folder(files: Record<string, string | Uint8Array>): string {
  const dir = mkdtempSync(join(tmpdir(), 'arrow-'));
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), content);
  }
  return dir;
}

const table = (rows: Record<string, unknown>[], form: 'stream' | 'file' = 'stream') =>
  tableToIPC(tableFromJSON(rows), form);
const one = (query: string) => table([{ query, positive: `${query} d` }]);
const state = (files: string[], more: object = {}): string =>
  JSON.stringify({ _data_files: files.map((filename) => ({ filename })), ...more });

describe('rows', () => {
  test.each(['stream', 'file'] as const)('a %s: texts, numbers, lists and nothing', async (form) => {
    const rows = [
      { query: 'q', docs: ['a', 'b'], labels: [1, 0] },
      { query: 'r', docs: ['c'], labels: [2] },
    ];
    const lists = new Table({
      query: vectorFromArray(['q', 'r'], new Utf8()),
      docs: vectorFromArray([['a', 'b'], ['c']], new List(new Field('item', new Utf8()))),
      labels: vectorFromArray([[1, 0], [2]], new List(new Field('item', new Float64()))),
    });
    const dir = folder({ 'train.arrow': tableToIPC(lists, form) });
    const read: unknown[] = [];
    for await (const row of readRows(join(dir, 'train.arrow'))) read.push(row.values);
    expect(read).toEqual(rows);
  });

  test('a file that is cut short, or is not an Arrow file, is refused', async () => {
    const whole = table(Array.from({ length: 50 }, (_, i) => ({ query: `q${i}`, positive: `d${i}` })));
    for (const bytes of [whole.subarray(0, whole.length - 400), Buffer.from('query,positive\na,b\n')])
      await expect(openDataset(folder({ 'train.arrow': bytes }))).rejects.toThrow(
        /cannot read .*train\.arrow \(.*\); check/,
      );
  });
});

describe('folders of datasets', () => {
  test('one split, by state.json', async () => {
    const dir = folder({
      'data-00000-of-00002.arrow': one('a'),
      'data-00001-of-00002.arrow': one('b'),
      'dataset_info.json': '{}',
      'state.json': state(['data-00000-of-00002.arrow', 'data-00001-of-00002.arrow'], { _split: 'test' }),
    });
    expect(dataKind(dir)).toBe('rows');
    const dataset = await openDataset(dir);
    expect([dataset.splits, dataset.qrels('test').size]).toEqual([['test'], 2]);
    expect(dataset.notes?.[0]).toMatch(/^data-00000-of-00002\.arrow and 1 more \(test\): query = query/);
  });

  test('several splits, by dataset_dict.json', async () => {
    const dir = folder({
      'dataset_dict.json': '{"splits": ["train", "validation"]}',
      'train/data-00000-of-00001.arrow': one('a'),
      'train/state.json': state(['data-00000-of-00001.arrow']),
      'validation/data-00000-of-00001.arrow': one('b'),
      'validation/state.json': state(['data-00000-of-00001.arrow']),
    });
    const dataset = await openDataset(dir, { holdOut: 0 });
    expect(dataset.splits).toEqual(['train', 'dev']);
    expect(dataset.queries.length).toBe(2);
  });

  test.each([
    ['a selection kept apart', state(['data.arrow'], { _indices_files: [{ filename: 'i.arrow' }] }), /flatten_indices/],
    ['a path that leaves the folder', state(['../data.arrow']), /state\.json: expected the files of the data set/],
    ['no description', '{', /state\.json: expected a JSON object; save the data set again/],
  ])('%s is refused', async (_, description, message) => {
    const dir = folder({ 'data.arrow': one('a'), 'dataset_info.json': '{}', 'state.json': description });
    await expect(openDataset(dir)).rejects.toThrow(message);
  });
});
