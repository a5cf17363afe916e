/** @file Ids of a data set are checked before anything is added, in parts: a set holds at most 2^24 of them. */
import { expect, test } from 'vitest';
import { TextTableBuilder } from '../../data/dataset.ts';
import { addDataset } from '../../search/index-documents.ts';
import { BATCH } from '../../serving/documents/add-documents.ts';
import type { DocumentIndex } from '../../serving/documents/document-index.ts';

test('all ids are checked before the first document is added', async () => {
  const table = new TextTableBuilder();
  const n = 2 * BATCH + 1;
  for (let i = 0; i < n; i++) table.add(`d${i}`, `text ${i}`);
  const dataset = { documents: table.build() };
  const calls: string[] = [];
  const checked: string[] = [];
  const index = {
    checkIds(ids: Iterable<string>) {
      const part = [...ids];
      calls.push(`check ${part.length}`);
      checked.push(...part);
    },
    missing: async (documents: readonly object[]) => documents,
    async add(documents: readonly object[]) {
      calls.push(`add ${documents.length}`);
    },
  } as unknown as DocumentIndex;
  expect(await addDataset(index, dataset, {})).toEqual({ added: n, kept: 0 });
  expect(checked).toEqual([...dataset.documents.ids]);
  const parts = [BATCH, BATCH, 1];
  expect(calls).toEqual([...parts.map((k) => `check ${k}`), ...parts.map((k) => `add ${k}`)]);
});
