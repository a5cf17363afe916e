/** @file The small inputs after public reports: what each must come out as. */
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { candidateSource, findCandidates } from '../../candidates/find-candidates.ts';
import { evaluate } from '../../checkpoints/evaluate.ts';
import { look } from '../../config/init/find-inputs.ts';
import { parseConfig } from '../../config/parse.ts';
import { judgedQueries } from '../../data/dataset.ts';
import { openDataset } from '../../data/open.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { Encoder } from '../../models/encoder.ts';
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

test.skipIf(!shared)('the negatives that rows list are the candidates', async () => {
  const dataset = await openDataset(at('row-negatives-unused', 'data'));
  const lists = dataset.candidates?.('train');
  expect(candidateSource('auto', dataset, 'train')).toBe('given');
  const config = parseConfig({
    data: { path: at('row-negatives-unused', 'data') },
    student: { model: at('_student') },
  });
  const found = await findCandidates(config, dataset, 'train', judgedQueries(dataset, 'train'), undefined, {});
  expect(found.documents).toEqual(lists?.documents);
  expect(found.documents.length).toBeGreaterThan(found.queries.length);
});

test.skipIf(!shared)('a float16 encoder gives the vectors of its float32 self within 1e-3', async () => {
  // Python's onnxruntime on the file, its mean over tokens, length 1.
  const right = {
    'red fruit': [-0.10811666, 0.03514307, 0.18852687, -0.0834108],
    'a yellow fruit': [-0.13304251, -0.02057544, 0.23468432, -0.08142506],
  };
  const encoder = await Encoder.load(at('fp16-encoder-output', 'student'));
  for (const [text, wanted] of Object.entries(right)) {
    const vector = await encoder.encode([text]);
    expect(vector).toHaveLength(32);
    for (const [i, x] of wanted.entries()) expect(Math.abs(vector[i] - x)).toBeLessThan(1e-3);
  }
  await encoder.dispose();
});

test.skipIf(!shared)('longest_first: the odd token goes to the longer text', async () => {
  const tokenizer = await TextTokenizer.load(join(shared as string, 'models', 'debian-cross-encoder'));
  const pair = tokenizer.encodePair('file '.repeat(400), 'open '.repeat(300), { maxLength: 512 });
  const second = pair.typeIds.reduce((n, t) => n + t, 0);
  // [CLS] 255 [SEP] and 254 [SEP].
  expect([pair.ids.length, second]).toEqual([512, 255]);
});
