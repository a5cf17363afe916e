/** @file The small inputs after public reports: what each must come out as. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { look } from '../../config/init/find-inputs.ts';
import { openDataset } from '../../data/open.ts';
import { evaluate } from '../../pipelines/evaluate.ts';
import { shared } from '../shared.ts';

const at = (...names: string[]): string => join(shared as string, 'cases', ...names);

test.skipIf(!shared).each([
  ['labelled-lists/list', 1],
  ['labelled-lists/tuple', 1],
  ['relevance-column/relevance', 1],
  ['relevance-column/label', 1],
  ['minus-one-labels/data', 1],
  // pytrec_eval: (1 / (1 + 1 / log2(3)) + 1) / 2.
  ['qrels-missing-document/data', 0.8065736],
  ['qrels-other-forms/b1', 1],
  ['qrels-other-forms/b3', 1],
  ['qrels-other-forms/b8', 1],
  ['qrels-other-forms/b18', 1],
  ['large-ids/one', 1],
  ['large-ids/two', 1],
])('%s: nDCG@10 %d', async (data, expected) => {
  const report = await evaluate({ student: at('_student'), data: at(data), cost: false, samples: 10 });
  expect(report.systems[0].metrics['ndcg@10']).toBeCloseTo(expected, 6);
});

test.skipIf(!shared).each([
  ['qrels-other-forms/b19', /b19.qrels.test\.tsv holds no judgement/],
  ['latin1', /train\.csv line 2 is not UTF-8: received "café crème/],
  ['csv-tsv-small/nohdr', /the first line \(red fruit, apple\) does not look like the names of columns/],
  ['csv-tsv-small/dupcol', /train\.csv has two columns called 'document'/],
])('%s is refused', async (data, message) => {
  await expect(openDataset(at(data))).rejects.toThrow(message);
});

test.skipIf(!shared)('quoted TSV: the quotation marks of fields are gone', async () => {
  const quoted = await openDataset(at('csv-tsv-small', 'tsvq'), { holdOut: 0 });
  expect(quoted.queries.ids.map((_, i) => quoted.queries.text(i)).sort()).toEqual(['plain', 'quoted "word" x']);
  expect(quoted.documents.ids.map((_, i) => quoted.documents.text(i)).sort()).toEqual(['c d', 'e "f"']);
  const tabs = await openDataset(at('csv-tsv-small', 'pandas_tsv'), { holdOut: 0 });
  expect(tabs.queries.ids.map((_, i) => tabs.queries.text(i)).sort()).toEqual([
    'he said ""hi""',
    'quoted "word" x',
    'tabs\tin here',
  ]);
});

test.skipIf(!shared)('what mine_hard_negatives wrote: labels of a list, one positive a query', async () => {
  const { qrels } = await openDataset(at('labelled-lists', 'real'));
  for (const grades of qrels('train').values()) expect([...grades.values()]).toEqual([1, 0, 0, 0]);
});

test.skipIf(!shared)('the order of judgements does not matter', async () => {
  const [a, b] = await Promise.all(['best-first', 'best-last'].map((d) => openDataset(at('several-positives', d))));
  const told = (d: typeof a) => [...d.qrels('train')].map(([q, g]) => [q, [...g]]);
  expect(told(a)).toEqual(told(b));
});

test.skipIf(!shared)("init sees FlagEmbedding's scores", async () => {
  const { dataset } = await look(at('flagembedding-scores'));
  expect(dataset.candidates?.('train').scores.length).toBe(6);
  expect(dataset.candidates?.('train').scores.every(Number.isFinite)).toBe(true);
});
