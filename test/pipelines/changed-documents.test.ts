/** @file Changed documents among candidates: the teacher scores them, training draws them, nothing else sees them. */
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { candidateLists } from '../../data/lists.ts';
import { openDataset } from '../../data/open.ts';
import { changedCandidates, withDocuments } from '../../generation/perturbed/changed-candidates.ts';
import { distill } from '../../pipelines/distill.ts';
import { makeWorld, type World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});

test('a copy with other attributes, a negated one, an irrelevant document and an empty one are added', async () => {
  const data = await openDataset(world.data);
  const q = data.queries.indexOf('q1') as number;
  const [d, other] = ['d1', 'd2'].map((id) => data.documents.indexOf(id) as number);
  const lists = candidateLists([
    { query: q, documents: [d, other], scores: [3, 1] },
    { query: q + 1, documents: [other] },
  ]);
  const { lists: all, texts } = changedCandidates(data, lists, (query) => new Set(query === q ? [d] : []), 1, 0);
  const base = data.documents.length;
  expect(texts[0]).toBe('');
  expect(texts[2]).toBe(data.documents.text(d).replace(' is ', ' is not '));
  const own = [...all.documents.subarray(all.offsets[0], all.offsets[1])];
  expect(own.slice(0, 2)).toEqual([d, other]);
  expect(own).toEqual(expect.arrayContaining([base, base + 1, base + 2]));
  expect(own.length).toBe(6);
  expect([...all.scores.subarray(0, 2)]).toEqual([3, 1]);
  expect(all.scores.subarray(2, 6).every(Number.isNaN)).toBe(true);
  // A query without a relevant document stays as it is.
  expect([...all.documents.subarray(all.offsets[1], all.offsets[2])]).toEqual([other]);
  const more = withDocuments(data, texts);
  expect([more.documents.length, more.documents.text(base + 2)]).toEqual([base + 3, texts[2]]);
  expect(more.documents.hash).not.toBe(data.documents.hash);
});

const options = (more: Partial<Omit<ConfigInput, 'student'>> & { student?: ConfigInput['student'] }, output: string) =>
  ({
    output: join(world.folder, output),
    cache: join(world.folder, 'cache'),
    data: { path: world.data },
    teacher: { kind: 'cross-encoder', model: world.crossEncoder },
    losses: [{ kind: 'kl' }],
    student: { model: world.student },
    train: { steps: 3, batchSize: 8, candidates: 4, threads: 1, evaluateEvery: null },
    evaluate: { teacher: false, bm25: false, before: false },
    ...more,
    candidates: { source: 'bm25', count: 4, changed: 0.5, ...more.candidates },
  }) as ConfigInput;

test.each([
  ['cross-to-dual', () => ({ student: { model: world.student } })],
  [
    'late-interaction',
    () => ({ embedder: { model: world.dualEncoder }, student: { multiVector: { dimensions: 8, tokens: 16 } } }),
  ],
] as const)('%s trains on them', async (pipeline, own) => {
  const notes: string[] = [];
  const onProgress = ({ note }: { note?: string }): void => {
    if (note) notes.push(note);
  };
  const report = await distill(options({ pipeline, ...own() }, pipeline), { onProgress });
  expect(notes.find((n) => /^\d+ changed documents are among the candidates$/.test(n))).toBeDefined();
  expect(report.training).toMatchObject({ steps: 3, skipped: 0 });
  const without = await distill(
    options(
      { pipeline, ...own(), candidates: { source: 'bm25', count: 4, changed: undefined } },
      `${pipeline}-without`,
    ),
  );
  expect(without.training.loss).not.toBe(report.training.loss);
});

test('what has no vectors of changed documents is refused', async () => {
  const frozen = {
    pipeline: 'inherit-documents' as const,
    embedder: { model: world.dualEncoder },
    student: { model: world.student },
  };
  await expect(distill(options(frozen, 'frozen'))).rejects.toThrow(
    /'candidates.changed' makes documents that the frozen/,
  );
  const matched: Partial<ConfigInput> = {
    ...frozen,
    pipeline: 'cross-to-dual',
    losses: [{ kind: 'embedding-matching' }],
  };
  await expect(distill(options(matched, 'matched'))).rejects.toThrow(/have no vector of the embedder/);
});
