/** @file Several graded positives: each is used, as likely as its grade is high, none is a negative, and the order of lines does not matter. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { candidateSource, findCandidates } from '../../candidates/find-candidates.ts';
import { toSelection } from '../../config/methods.ts';
import { parseConfig } from '../../config/parse.ts';
import type { Dataset } from '../../data/dataset.ts';
import type { CandidateLists } from '../../data/lists.ts';
import { openDataset } from '../../data/open.ts';
import { neverNegative, relevantDocuments } from '../../data/relevant.ts';
import { Random } from '../../math/random.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import { makeBatch } from '../../training/batches/dual-encoder-batch.ts';
import { selectExamples } from '../../training/batches/examples.ts';

const config = parseConfig({
  data: { path: 'x' },
  student: { fresh: { hidden: 16, layers: 1 } },
  losses: [{ kind: 'info-nce' }],
  candidates: { count: 6 },
});
const nouns = ['apple', 'river', 'stone', 'engine', 'paper', 'violin', 'garden', 'copper'];
const documents = Array.from({ length: 64 }, (_, i) => ({
  _id: `d${i}`,
  text: `${nouns[i % 8]} ${nouns[i >> 3]} ${i}`,
}));
const queries = nouns.map((n, i) => ({ _id: `q${i}`, text: `${n} ${nouns[(i + 1) % 8]}` }));
/** Three positives a query, graded 3, 1 and 1, and one judged as not relevant. */
const lines = queries.flatMap((q, i) => [
  `${q._id}\td${i + 8}\t3`,
  `${q._id}\td${i + 16}\t1`,
  `${q._id}\td${i + 24}\t1`,
  `${q._id}\td${i + 32}\t0`,
]);
const jsonl = (rows: readonly object[]): string => rows.map((r) => `${JSON.stringify(r)}\n`).join('');

function examplesFrom(dataset: Dataset, lists: CandidateLists): Examples {
  const relevant = relevantDocuments(dataset, 'train');
  const labels = { relevant, never: neverNegative(dataset, 'train', relevant) };
  const options = { selection: toSelection(config.selection), seed: config.seed, pseudoLabels: false };
  return selectExamples(lists, labels, options).examples;
}

async function examplesOf(files: Record<string, string>): Promise<Examples> {
  const dir = mkdtempSync(join(tmpdir(), 'positives-'));
  mkdirSync(join(dir, 'qrels'));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(dir, name), content);
  const dataset = await openDataset(dir, { holdOut: 0 });
  const all = [...dataset.qrels('train').keys()].map((id) => dataset.queries.indexOf(id) as number);
  const lists = await findCandidates(config, dataset, 'train', all, undefined, {});
  return examplesFrom(dataset, lists);
}

const beir = (judgements: readonly string[]) => ({
  'corpus.jsonl': jsonl(documents),
  'queries.jsonl': jsonl(queries),
  'qrels/train.tsv': `query-id\tcorpus-id\tscore\n${judgements.join('\n')}\n`,
});
const bytesOf = ({ queries: q, offsets, documents: d, scores, labelled, weights }: Examples) =>
  [q, offsets, d, labelled, weights, scores].map((a) =>
    Buffer.from(a.buffer, a.byteOffset, a.byteLength).toString('hex'),
  );

test('shuffled judgements and shuffled rows give the same bytes of examples', async () => {
  const shuffled = (seed: number): string[] => Random.of(seed).shuffle([...lines]);
  const expected = bytesOf(await examplesOf(beir(lines)));
  for (const seed of [1, 2]) expect(bytesOf(await examplesOf(beir(shuffled(seed))))).toEqual(expected);
  const rows = lines.map((line) => {
    const [q, d, label] = line.split('\t');
    return {
      query: queries[Number(q.slice(1))].text,
      document: documents[Number(d.slice(1))].text,
      label: Number(label),
    };
  });
  const ofRows = bytesOf(await examplesOf({ 'train.jsonl': jsonl(rows) }));
  expect(bytesOf(await examplesOf({ 'train.jsonl': jsonl(Random.of(3).shuffle([...rows])) }))).toEqual(ofRows);
});

test('all positives come before the negatives, the highest grade first; count includes one of them', async () => {
  const examples = await examplesOf(beir(lines));
  const own = Array.from(examples.documents.subarray(examples.offsets[2], examples.offsets[3]));
  expect(own.slice(0, 3)).toEqual([10, 18, 26]);
  expect(own.length).toBe(3 + 5);
  expect(own.slice(3).some((d) => [10, 18, 26].includes(d))).toBe(false);
});

const tokens = { ids: Int32Array.of(1), typeIds: Int32Array.of(0) };
const batchesOf = (examples: Examples, step: number) => {
  const source = { examples, queryTokens: () => tokens, documentTokens: () => tokens, padId: 0 };
  return makeBatch(source, step, { queries: 8, candidates: 4, documentGroups: 1, seed: 7 });
};

test('a step draws one positive by grade, the same one for the same step', async () => {
  const examples = await examplesOf(beir(lines));
  const drawn = { 1: 0, 3: 0 } as Record<number, number>;
  const steps = 500;
  for (let step = 0; step < steps; step++) {
    const batch = batchesOf(examples, step);
    if (step < 5) expect(batchesOf(examples, step).drawn).toEqual(batch.drawn);
    for (const [b, e] of batch.exampleIds.entries()) {
      const grades = batch.drawn[b].map((at) => examples.grade?.(examples.queries[e], examples.documents[at]));
      drawn[grades[0] as number]++;
      // Without scores no other positive takes a negative's place.
      expect(grades.slice(1)).toEqual([0, 0, 0]);
    }
  }
  // Grades 3, 1 and 1: three of five draws, and two of five for the others together.
  expect(drawn[3] / (8 * steps)).toBeCloseTo(0.6, 1);
  expect(drawn[1] / (8 * steps)).toBeCloseTo(0.4, 1);
});

test('another positive that the teacher scored is among the candidates, and is not a negative', async () => {
  const examples = await examplesOf(beir(lines));
  examples.scores.fill(1);
  let others = 0;
  for (let step = 0; step < 20; step++) {
    const { arrays, candidates, drawn, exampleIds } = batchesOf(examples, step);
    const { positives, inBatch } = arrays as Record<string, { dims: number[]; data: Float32Array }>;
    const [M, N] = [positives.dims[1], candidates.dims[1]];
    for (const [b, e] of exampleIds.entries())
      for (const [j, at] of drawn[b].entries()) {
        const relevant = (examples.grade?.(examples.queries[e], examples.documents[at]) ?? 0) > 0;
        const m = b * M + Number(candidates.data[b * N + j]);
        expect([positives.data[m], inBatch.data[m]]).toEqual(j === 0 ? [1, 1] : relevant ? [0, 0] : [0, 1]);
        others += Number(j > 0 && relevant);
      }
  }
  expect(others).toBeGreaterThan(20);
});

test('rows that list negatives give the candidates by default', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'given-'));
  writeFileSync(join(dir, 'train.jsonl'), jsonl([{ query: 'a', positive: 'b', negatives: ['c', 'd'] }]));
  const dataset = await openDataset(dir, { holdOut: 0 });
  expect(candidateSource('auto', dataset, 'train')).toBe('given');
  const examples = examplesFrom(dataset, await findCandidates(config, dataset, 'train', [0], undefined, {}));
  expect(Array.from(examples.documents, (d) => dataset.documents.text(d)).sort()).toEqual(['b', 'c', 'd']);
  writeFileSync(join(dir, 'train.jsonl'), jsonl([{ query: 'a', positive: 'b' }]));
  expect(candidateSource('auto', await openDataset(dir, { holdOut: 0 }), 'train')).toBe('bm25');
});
