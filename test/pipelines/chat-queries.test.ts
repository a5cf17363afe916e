/** @file A run that learns from queries which a language model writes: judged with their documents, filtered, kept. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { candidateLists } from '../../data/lists.ts';
import { openDataset } from '../../data/open.ts';
import { distill, planRun } from '../../pipelines/distill.ts';
import { keptLists, withWritten } from '../../pipelines/prepare/chat-queries.ts';
import { trainingQueries } from '../../run/data.ts';
import { closeAll, say, server } from '../generation/server.ts';
import { makeWorld, type World } from './world.ts';

let world: World;
let endpoint: Awaited<ReturnType<typeof server>>;
beforeAll(async () => {
  world = await makeWorld();
  endpoint = await server(({ messages }, response) => {
    const [, thing, colour] = /This (\w+) is (\w+)\./.exec(messages[0].content) ?? [];
    say(response, `1. where is the ${colour} ${thing}\n2. ${thing} in ${colour}`);
  });
});
afterAll(() => {
  closeAll();
  rmSync(world.folder, { recursive: true, force: true });
});

const options = (output: string, more: object = {}): ConfigInput => ({
  output: join(world.folder, output),
  cache: join(world.folder, 'cache'),
  data: { path: world.data },
  teacher: { kind: 'cross-encoder', model: world.crossEncoder },
  student: { model: world.dualEncoder },
  candidates: { count: 4 },
  evaluate: { before: false, bm25: false, teacher: false },
  train: { steps: 2, batchSize: 4 },
  generate: { kind: 'chat', url: endpoint.url, model: 'tiny', each: 2, budget: { calls: 20 }, concurrency: 1, ...more },
});

test('written queries are judged with their documents; a second run asks nothing, another one only what is not known', async () => {
  const config = options('written');
  const plan = await planRun(config);
  expect(plan.find((s) => s.stage === 'written queries')?.status).toBe('made');
  expect(endpoint.calls).toHaveLength(0);
  const said: string[] = [];
  await distill(config, { onProgress: (p) => p.note && said.push(p.note) });
  expect(endpoint.calls).toHaveLength(20);
  expect(endpoint.calls[0].content).toContain('Queries that people ask look like these');
  expect(said.join('\n')).toMatch(
    /\d+ queries of 20 documents were written by tiny: 20 calls, 200 tokens, 0 replies known/,
  );
  expect(said.join('\n')).toContain('the budget of 20 calls is spent');
  expect(said.join('\n')).toMatch(
    /\d+ of \d+ written queries are left out: their documents are not among the teacher's best/,
  );
  const again = await distill(config);
  expect(Object.values(again.stages)).not.toContain('made');
  expect(endpoint.calls).toHaveLength(20);
  // The replies outlive the run's folder.
  rmSync(join(world.folder, 'written'), { recursive: true });
  await distill(options('written', { budget: { calls: 1 } }));
  expect(endpoint.calls).toHaveLength(21);
}, 120_000);

test('they are queries of the training split, and the teacher has to find their documents', async () => {
  const data = await openDataset(world.data);
  const written = { texts: ['one', 'two', 'three'], documents: [5, 6, 7] };
  const more = withWritten(data, written, 'train');
  const n = data.queries.length;
  const config = parseConfig({ data: { path: world.data }, student: { model: world.dualEncoder } });
  expect(trainingQueries(config, more).slice(80, 83)).toEqual([n, n + 1, n + 2]);
  expect([...(more.qrels('train').get('generated-1') as Map<string, number>)]).toEqual([['d6', 1]]);
  expect(more.queries.text(n + 2)).toBe('three');
  expect(more.queries.indexOf('generated-2')).toBe(n + 2);
  expect(more.qrels('dev')).toBe(data.qrels('dev'));
  const lists = candidateLists([
    { query: 0, documents: [1, 2], scores: [0, 1] },
    { query: n, documents: [5, 2, 3], scores: [0.5, 0.6, 0.1] },
    { query: n + 1, documents: [6, 2, 3], scores: [0.1, 0.6, 0.2] },
    { query: n + 2, documents: [1, 2, 3], scores: [1, 2, 3] },
  ]);
  expect(keptLists(lists, written, n, 2)).toEqual([0, 1]);
  expect(keptLists(lists, written, n, 3)).toEqual([0, 1, 2]);
  // Without a teacher there are no scores, and nothing is left out for them.
  const bare = { ...lists, scores: lists.scores.map(() => Number.NaN) };
  expect(keptLists(bare, written, n, 1)).toEqual([0, 1, 2]);
});

test('an endpoint is named whole, and only where it is asked', () => {
  const of = (generate: object) => () =>
    parseConfig({ ...options('x'), generate: generate as ConfigInput['generate'] });
  expect(of({ kind: 'chat', url: 'http://x/v1' })).toThrow("'generate.kind: chat' needs 'generate.model'");
  expect(of({ kind: 'spans', model: 'm' })).toThrow("'generate.model' is read by 'generate.kind: chat' alone");
  expect(of({ kind: 'chat', url: 'u', model: 'm', prompt: 'no place' })).toThrow('expected {document}');
});
