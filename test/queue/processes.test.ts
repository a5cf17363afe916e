/**
 * @file `distill score --queue`, `distill embed --queue` and `distill worker` as processes around a real server: whoever is killed,
 * every pair is scored and every text embedded, and written once. KILLS sets how many workers are killed with work in hand (3; more overnight, when the server is killed too).
 */
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { stringify } from 'yaml';
import { freshModel } from '../../models/new-model.ts';
import { survey } from '../../teachers/cache/maintenance.ts';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';
import { score } from '../../teachers/jobs/score.ts';
import { embed } from '../../teachers/teacher.ts';
import { distill, documents, jsonl, makeWorld, tinyConfig, write } from '../cli/world.ts';
import { build, heard, type Running, start } from '../reliability/command.ts';
import { hasServer, type Server, startServer } from './server.ts';

const KILLS = Number(process.env.KILLS ?? 3);
// Processes that start, die and wait for leases, on machines that may be busy.
vi.setConfig({ testTimeout: 120_000 + 20_000 * KILLS });

const QUERIES = 40;
const CANDIDATES = 80;

let world: string;
let server: Server;
let reference: Map<string, number>;
const running: Running[] = [];
const config = (name: string) => ({
  output: join(world, 'out'),
  cache: join(world, name),
  data: { path: join(world, 'data') },
  teacher: { kind: 'cross-encoder' as const, model: join(world, 'cross') },
  student: { model: join(world, 'cross') },
  // Drawn with repetition: the same pair is met more than once.
  candidates: { source: 'random' as const, count: CANDIDATES },
  train: { provider: 'cpu' as const, threads: 1 },
});

beforeAll(async () => {
  if (!hasServer) return;
  build();
  server = await startServer();
  world = mkdtempSync(join(tmpdir(), 'workers-'));
  const corpus = [0, 1, 2].flatMap((k) =>
    documents.map((d) => ({ ...d, _id: `${d._id}-${k}`, text: `${d.text} ${'and more '.repeat(20 * k)}` })),
  );
  const queries = Array.from({ length: QUERIES }, (_, i) => ({ _id: `q${i}`, text: `open file ${i} of ${i % 7}` }));
  write(join(world, 'data'), {
    'corpus.jsonl': jsonl(corpus),
    'queries.jsonl': jsonl(queries),
    'qrels/train.tsv': `query-id\tcorpus-id\tscore\n${queries.map((q, i) => `${q._id}\t${corpus[i]._id}\t1\n`).join('')}`,
    'qrels/test.tsv': `query-id\tcorpus-id\tscore\nq0\t${corpus[0]._id}\t1\n`,
  });
  const many = Array.from({ length: TEXTS }, (_, i) => ({
    _id: `m${i}`,
    text: `${'file open list '.repeat(1 + (i % 40))} ${i}`,
  }));
  write(join(world, 'many'), {
    'corpus.jsonl': jsonl(many),
    'queries.jsonl': jsonl(queries),
    'qrels/train.tsv': `query-id\tcorpus-id\tscore\n${queries.map((q, i) => `${q._id}\tm${i}\t1\n`).join('')}`,
    'qrels/test.tsv': 'query-id\tcorpus-id\tscore\nq0\tm0\t1\n',
  });
  const model = { hidden: 48, layers: 3, heads: 2, maxLength: 64, vocabulary: 200, kind: 'cross-encoder' } as const;
  const texts = { length: corpus.length, text: (i: number) => corpus[i].text };
  await freshModel(join(world, 'cross'), texts, model);
  await freshModel(join(world, 'dual'), texts, { ...model, kind: 'encoder' });
  await freshModel(join(world, 'other'), texts, { ...model, seed: 7 });
  write(world, { 'plain.yaml': stringify(config('plain')) });
  await score(config('plain'), 'train', join(world, 'plain.tsv'));
  reference = scoresIn('plain.tsv');
});
afterEach(async () => {
  for (const { child, ended } of running.splice(0)) {
    child.kill('SIGKILL');
    await ended;
  }
});
afterAll(() => server?.stop());

function scoresIn(file: string): Map<string, number> {
  const lines = readFileSync(join(world, file), 'utf8').trimEnd().split('\n').slice(1);
  return new Map(lines.map((l) => l.split('\t')).map(([q, d, s]) => [`${q} ${d}`, Number(s)]));
}
const begin = (...argv: string[]): Running => {
  const one = start(argv);
  running.push(one);
  return one;
};
const coordinator = (name: string, more: object = {}): Running => {
  write(world, { [`${name}.yaml`]: stringify({ ...config(name), ...more }) });
  return begin(
    ...['score', join(world, `${name}.yaml`), '--scores', join(world, `${name}.tsv`), '--queue', server.url, '--json'],
  );
};
const worker = (...more: string[]): Running =>
  begin('worker', '--queue', server.url, '--provider', 'cpu', '--lease', '1', ...more);
const kill = async (one: Running): Promise<void> => {
  one.child.kill('SIGKILL');
  await one.ended;
};
const dismissed = async (one: Running): Promise<number> => {
  one.child.kill('SIGTERM');
  await one.ended;
  return Number(/(\d+) pairs scored in/.exec(one.said())?.[1]);
};
const reportOf = (one: Running): { pairs: number; fromQueue: number } =>
  JSON.parse(one.said().match(/^\{.*\}$/m)?.[0] ?? '{}');
/** `distill embed` of a corpus of its own: each document is longer than the one before. */
const embedding = (name: string, more: object = {}): Running => {
  const embedder = { model: join(world, 'dual'), queryTokens: 16, documentTokens: 64, ...more };
  const data = { path: join(world, 'many') };
  write(world, {
    [`${name}.yaml`]: stringify({
      ...config(name),
      data,
      teacher: undefined,
      embedder,
      losses: [{ kind: 'embedding-matching' }],
    }),
  });
  return begin('embed', join(world, `${name}.yaml`), '--queue', server.url, '--json');
};
const TEXTS = 1200;
const vectorsKept = async (name: string): Promise<number> =>
  (await survey(join(world, name)).catch(() => undefined))?.tallies.reduce((n, t) => n + t.embeddings, 0) ?? 0;
const kept = async (name: string): Promise<number> =>
  (await survey(join(world, name)).catch(() => undefined))?.tallies.reduce((n, t) => n + t.scores, 0) ?? 0;

/** Every pair of the file has the score of an undisturbed run, and the cache has each once. */
async function expectWhole(name: string): Promise<void> {
  const found = scoresIn(`${name}.tsv`);
  expect([...found.keys()].sort()).toEqual([...reference.keys()].sort());
  for (const [pair, value] of found) expect(Math.abs(value - (reference.get(pair) as number))).toBeLessThan(1e-4);
  expect(await kept(name)).toBe(reference.size);
}

describe.skipIf(!hasServer)('workers around a server', () => {
  test(
    'workers killed with work in hand: the work goes to others',
    async () => {
      const asking = coordinator('killed');
      await heard(asking, /there is no worker for redis/);
      for (let i = 0; i < KILLS; i++) {
        const victim = worker();
        await heard(victim, /working with/);
        await kill(victim);
      }
      const [a, b] = [worker(), worker()];
      expect(await asking.ended, asking.said()).toBe(0);
      await expectWhole('killed');
      // What came through the queue is every pair once, whatever was done twice.
      expect(reportOf(asking).fromQueue).toBe(reference.size);
      expect((await dismissed(a)) + (await dismissed(b))).toBeLessThanOrEqual(reference.size);
    },
    60_000 + 10_000 * KILLS,
  );

  test('the asking process killed and started again goes on; what was done meanwhile is not done again', async () => {
    const first = coordinator('again');
    // A short lease is lost on a busy machine by a worker that lives, and its range done twice.
    const only = worker('--lease', '60');
    await expect.poll(() => kept('again'), { interval: 10, timeout: 90_000 }).toBeGreaterThan(0);
    await kill(first);
    const second = coordinator('again');
    expect(await second.ended, second.said()).toBe(0);
    await expectWhole('again');
    const known = Number(/(\d+) of \d+ pairs were in the cache/.exec(second.said())?.[1] ?? 0);
    expect(known).toBeGreaterThan(0);
    expect(known + reportOf(second).fromQueue).toBe(reference.size);
    expect(await dismissed(only)).toBe(reference.size);
    expect(only.child.exitCode).toBe(0);
  });

  test('two teachers share a server: a worker leaves the pairs of another teacher alone and serves its own', async () => {
    // An answer that came while its asker was killed stays on the server for whoever asks again: here nobody may have it.
    await server.stop();
    server = await startServer();
    const asking = coordinator('refused');
    await heard(asking, /there is no worker for redis.* with this teacher/);
    const other = worker('--model', join(world, 'other'));
    await heard(
      other,
      /left to other workers: .*other is another model than the one that is asked for: expected the key [0-9a-f]{12}/,
    );
    const absent = worker('--model', join(world, 'nowhere'));
    expect(await absent.ended).toBe(2);
    expect(absent.said()).toMatch(/cannot be opened on this machine \(there is no model folder .*--model/);
    // Its own teacher's pairs come to the same server, and the first teacher's still wait.
    const second = coordinator('second', { teacher: { kind: 'cross-encoder', model: join(world, 'other') } });
    expect(await second.ended, second.said()).toBe(0);
    expect(scoresIn('second.tsv')).not.toEqual(reference);
    expect(await dismissed(other)).toBe(reference.size);
    expect(await kept('refused')).toBe(0);
    worker('--model', join(world, 'cross'));
    expect(await asking.ended, asking.said()).toBe(0);
    await expectWhole('refused');
  });

  test(
    'documents are embedded by workers that are killed with texts in hand: nothing is lost, nothing is written twice',
    async () => {
      const asking = embedding('embedded');
      await heard(asking, /there is no worker for redis/);
      for (let i = 0; i < KILLS; i++) {
        const victim = worker();
        await heard(victim, /working with .*dual/);
        await kill(victim);
      }
      const [a, b] = [worker(), worker()];
      expect(await asking.ended, asking.said()).toBe(0);
      expect(JSON.parse(asking.said().match(/^\{.*\}$/m)?.[0] ?? '{}')).toEqual({
        texts: TEXTS,
        kind: 'documents',
        dimensions: 48,
        fromQueue: TEXTS,
      });
      expect(await vectorsKept('embedded')).toBe(TEXTS);
      const embedded = async (one: Running): Promise<number> => {
        await dismissed(one);
        return Number(/and (\d+) texts embedded/.exec(one.said())?.[1] ?? 0);
      };
      expect((await embedded(a)) + (await embedded(b))).toBeLessThanOrEqual(TEXTS);
      // The vectors are those that this process makes.
      const cache = await ScoreCache.open(join(world, 'embedded'));
      const dual = await dualEncoder(join(world, 'dual'), { queryTokens: 16, documentTokens: 64 });
      const asked = [0, 17, TEXTS - 1].map((i) => `${'file open list '.repeat(1 + (i % 40))} ${i}`);
      const stored = await embed(cache.wrap({ ...dual, embed: () => expect.fail() }))(asked, 'document');
      const { data } = await dual.embed(asked, 'document');
      for (const [k, x] of data.entries()) expect(Math.abs(stored.data[k] - x)).toBeLessThan(1e-5);
      await dual.dispose();
      await cache.close();
      // A second command asks for nothing; one in int8 has vectors of its own.
      const second = embedding('embedded');
      expect(await second.ended, second.said()).toBe(0);
      expect(second.said()).toContain('"fromQueue":0');
      const small = embedding('embedded', { dtype: 'int8' });
      const third = worker();
      expect(await small.ended, small.said()).toBe(0);
      expect(small.said()).toContain(`"fromQueue":${TEXTS}`);
      expect(third.said()).toMatch(/in int8 compared with float32 on 128 texts: cosine [01]\.\d+ on average/);
      expect(await vectorsKept('embedded')).toBe(2 * TEXTS);
    },
    120_000 + 10_000 * KILLS,
  );

  test.skipIf(!process.env.KILLS)('a server that loses its memory is given the work again', async () => {
    const asking = coordinator('forgetful');
    await heard(asking, /there is no worker/);
    await server.stop();
    server = await startServer(Number(new URL(server.url).port));
    worker();
    expect(await asking.ended, asking.said()).toBe(0);
    await expectWhole('forgetful');
  });
});

test('where nobody else can reach the queue, the process that asks works itself', async () => {
  const folder = await makeWorld();
  write(folder, { 'distill.yaml': stringify({ ...tinyConfig, ...inside(folder) }) });
  const argv = ['score', join(folder, 'distill.yaml'), '--scores', join(folder, 'scores.tsv'), '--json'];
  const { code, out, err } = await distill(...argv, '--queue', 'in-process:');
  expect(code, err).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ queries: 16, pairs: 64, fromQueue: 64 });
  expect(JSON.parse((await distill(...argv, '--queue', 'in-process:')).out).fromQueue).toBe(0);
  const given = { teacher: { kind: 'scores', files: { train: join(folder, 'teacher-scores-train.tsv') } } };
  write(folder, { 'given.yaml': stringify({ ...tinyConfig, ...inside(folder), ...given }) });
  const refused = await distill('score', join(folder, 'given.yaml'), '--queue', 'in-process:');
  expect(refused.code).toBe(2);
  expect(refused.err).toMatch(/'teacher' is not a model that workers could open/);
});

const inside = (folder: string) => ({
  output: join(folder, 'out'),
  cache: join(folder, 'cache'),
  data: { path: join(folder, 'data') },
  teacher: { kind: 'cross-encoder', model: join(folder, 'cross') },
  student: { model: join(folder, 'dual') },
});
