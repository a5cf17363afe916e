/** @file Training on a stream: the order of the queries, its refusals, and a run that is stopped and resumed. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { distill, planRun } from '../../pipelines/distill.ts';
import { sortKeys } from '../../pipelines/prepare/stream-order.ts';
import { makeWorld, type World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});

type Train = NonNullable<ConfigInput['train']>;
const options = (name: string, train: Train, more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, 'runs', name),
  cache: join(world.folder, 'cache'),
  data: { path: world.data, unlabelled: false },
  embedder: { model: world.dualEncoder },
  student: { model: world.student },
  candidates: { source: 'bm25', count: 6 },
  losses: [{ kind: 'info-nce' }],
  evaluate: { bm25: false, before: false, teacher: false },
  ...more,
  train: { steps: 12, batchSize: 8, candidates: 4, learningRate: 1e-3, warmupSteps: 2, threads: 1, ...train },
});
const model = (folder: string): Buffer => readFileSync(join(folder, 'onnx', 'model.onnx'));

test.each(['shuffle', 'reverse', 'introspective', 'in-order'] as const)(
  '%s: stopped in the middle of a buffer and resumed, the bytes are those of one run',
  async (replay) => {
    const train: Train = { order: 'stream', stream: { replay, buffer: 40 }, saveEvery: 100 };
    const notes: string[] = [];
    const whole = await distill(options(`${replay}-whole`, train), { onProgress: (p) => p.note && notes.push(p.note) });
    expect(notes).toContain('the stream: 80 examples in the order of the file of queries');
    // Passes of 10 batches, buffers of 5: a buffer begins at the steps 0, 5 and 10.
    const surprises = notes.filter((n) => n.includes('losses of the 40 examples'));
    expect(surprises.map((n) => n.split(':')[0])).toEqual(
      replay === 'introspective' ? ['step 0', 'step 5', 'step 10'] : [],
    );
    const stop = new AbortController();
    await expect(
      distill(options(`${replay}-stopped`, train), {
        signal: stop.signal,
        onProgress: (p) => p.stage === 'train' && p.done === 7 && stop.abort(new Error('stopped')),
      }),
    ).rejects.toThrow('stopped');
    const resumed = await distill(options(`${replay}-stopped`, train));
    expect(model(resumed.checkpoint).equals(model(whole.checkpoint))).toBe(true);
  },
);

test('methods give other students, and each student of its own seed alone', async () => {
  const of = async (stream: Train['stream']) =>
    model(
      (
        await distill(
          options(`other-${JSON.stringify(stream)}`.replace(/\W+/g, '-'), { order: 'stream', stream, steps: 3 }),
        )
      ).checkpoint,
    );
  const [ordered, reversed, shuffled] = [
    await of({ replay: 'in-order' }),
    await of({ replay: 'reverse', buffer: 40 }),
    await of({}),
  ];
  expect(ordered.equals(reversed)).toBe(false);
  expect(ordered.equals(shuffled)).toBe(false);
});

test('a field of the queries orders the stream; a dry run and a run say how it is read', async () => {
  const file = join(world.data, 'queries.jsonl');
  const rows = readFileSync(file, 'utf8').trim().split('\n');
  const dated = rows.map((line, i) => ({
    ...JSON.parse(line),
    day: `2024-01-${String(31 - (i % 30)).padStart(2, '0')}`,
  }));
  writeFileSync(file, dated.map((r) => JSON.stringify(r)).join('\n'));
  const train: Train = { order: 'stream', stream: { by: 'day', replay: 'in-order' }, steps: 2 };
  const notes: string[] = [];
  const report = await distill(options('by-day', train), { onProgress: (p) => p.note && notes.push(p.note) });
  expect(notes).toContain("the stream: 80 examples by the field 'day' (dates), equal ones in the order of the file");
  const plan = await planRun(options('by-day', train));
  expect(plan.find((s) => s.stage === 'training')?.status).toBe('reused');
  // Another day of one query is another order: the training of the earlier run is not used.
  writeFileSync(file, dated.map((r, i) => JSON.stringify(i === 3 ? { ...r, day: '2023-01-01' } : r)).join('\n'));
  const again = await distill(options('by-day', train));
  expect(again.stages.training).toBe('made');
  expect(report.stages.training).toBe('made');
  const missing: Train = { order: 'stream', stream: { by: 'week' }, steps: 2 };
  await expect(distill(options('by-week', missing))).rejects.toThrow(
    "80 of the 80 training queries of data have no field 'week', by which the stream is ordered",
  );
});

test('topics of the embedder order the stream', async () => {
  const notes: string[] = [];
  await distill(options('topics', { order: 'stream', stream: { by: { topics: 6 } }, steps: 2 }), {
    onProgress: (p) => p.note && notes.push(p.note),
  });
  expect(notes).toContain('the stream: 80 examples, one topic after another (6 topics)');
});

test('rows of files are not a stream', async () => {
  const file = join(world.folder, 'rows.jsonl');
  const row = (i: number) => JSON.stringify({ query: `question ${i} about lamps`, positive: `answer ${i} on lamps` });
  writeFileSync(file, Array.from({ length: 40 }, (_, i) => row(i)).join('\n'));
  await expect(distill(options('rows', { order: 'stream', steps: 2 }, { data: { path: file } }))).rejects.toThrow(
    /those of files of rows are not kept in it.*train.stream.by.topics/s,
  );
});

test('what is read of a field', () => {
  const table = { name: 'logs', queries: {} as never };
  const keys = (values: unknown[]) => sortKeys(values, 'at', table);
  expect([...keys([3, -1, 2.5]).keys]).toEqual([3, -1, 2.5]);
  const { keys: times, how } = keys(['2024-01-02', '2024-01-01T23:00:00Z', '2024-01-02 01:00:00+02:00', '2024-01']);
  expect(how).toBe('dates');
  expect([...times].map((t) => new Date(t).toISOString())).toEqual([
    '2024-01-02T00:00:00.000Z',
    '2024-01-01T23:00:00.000Z',
    '2024-01-01T23:00:00.000Z',
    '2024-01-01T00:00:00.000Z',
  ]);
  expect([...keys(['games', 'mail', 'games', 'editors']).keys]).toEqual([0, 1, 0, 2]);
  expect(() => keys(['03/04/2024', '04/04/2024'])).toThrow("holds '03/04/2024', a date whose order is not known");
  expect(() => keys(['2024-01-01', 'yesterday'])).toThrow("holds 'yesterday', a date whose order is not known");
  expect(() => keys(['2024-13-01'])).toThrow("holds '2024-13-01', which is no date");
  expect(() => keys([1, 'a'])).toThrow('values of several types');
  expect(() => keys([{}, {}])).toThrow('values of several types');
  expect(() => keys([1, undefined])).toThrow("1 of the 2 training queries of logs have no field 'at'");
});

test('contradictions are refused', () => {
  const refused = (train: Train, more: Partial<ConfigInput> = {}) =>
    expect(() => parseConfig(options('x', train, more)));
  refused({ stream: {} }).toThrow("'train.stream' is read with 'train.order: stream' alone");
  refused({ order: 'stream', topics: { clusters: 4 } }).toThrow("'train.order' is 'stream'");
  refused({ order: 'stream', stream: { gap: 3 } }).toThrow("'train.stream.gap' is not read by 'replay: shuffle'");
  refused({ order: 'stream', stream: { by: { topics: 3 } } }, { embedder: undefined }).toThrow(
    "there is no 'embedder'",
  );
  refused(
    { order: 'stream', stream: { replay: 'introspective' } },
    { losses: [{ kind: 'embedding-matching', of: 'queries' }] },
  ).toThrow('no loss compares documents');
});
