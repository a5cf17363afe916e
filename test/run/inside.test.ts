/** @file Runs inside runs: a pipeline of pipelines whose second student starts from the first one's folder, and rounds. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import type { Progress } from '../../common/progress.ts';
import type { Config, ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { crossToDual } from '../../pipelines/cross-to-dual.ts';
import { distill, planRun } from '../../pipelines/distill.ts';
import { openRun, type RunContext } from '../../run/context.ts';
import type { StagePlan } from '../../run/stages/run-log.ts';
import { makeWorld, type World } from '../pipelines/world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});

const options = (name: string, more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, 'runs', name),
  cache: join(world.folder, 'cache'),
  data: { path: world.data },
  teacher: { kind: 'cross-encoder', model: world.crossEncoder },
  student: { model: world.student },
  candidates: { count: 4 },
  evaluate: { teacher: false, before: false, bm25: false },
  ...more,
  train: { steps: 3, batchSize: 8, candidates: 4, warmupSteps: 1, threads: 1, provider: 'cpu', ...more.train },
});

/** Two runs, the second from the checkpoint of the first. */
const chain = (second: Partial<ConfigInput>, watch: { onProgress?: (p: Progress) => void } = {}, dry = false) =>
  openRun(
    parseConfig(options('chain')),
    watch,
    async (run: RunContext) => {
      const inner = (more: Partial<ConfigInput>): Config => parseConfig(options('chain', more));
      const first = await run.runInside('first', inner({}), async (own) => (await crossToDual(own)).checkpoint);
      const model = run.path('first', 'checkpoint');
      const last = await run.runInside(
        'second',
        inner({ seed: 1, ...second, student: { model } }),
        async (own) => (await crossToDual(own)).checkpoint,
        [first],
      );
      const folders = dry ? [] : [(await first.value()).folder, (await last.value()).folder];
      return { folders, stages: run.log.stages };
    },
    dry,
  );

const statusOf = (stages: readonly StagePlan[], name: string): string | undefined =>
  stages.find((s) => s.stage === name)?.status;
const made = (stages: readonly StagePlan[]): string[] => stages.filter((s) => s.status === 'made').map((s) => s.stage);

test('a pipeline calls two runs: each has its folder, and only what changed is made again', async () => {
  const before = await chain({}, {}, true);
  expect(existsSync(join(world.folder, 'runs', 'chain'))).toBe(false);
  expect(statusOf(before.stages, 'first/training')).toBe('made');
  // What the second starts from does not exist yet: its stages are not listed.
  expect(before.stages.filter((s) => s.stage.startsWith('second'))).toEqual([
    { stage: 'second', status: 'depends', why: 'on models that an earlier run in this one makes' },
  ]);

  const heard = new Set<string | undefined>();
  const { folders, stages } = await chain({}, { onProgress: (p) => heard.add(p.run) });
  expect(folders).toEqual(['first', 'second'].map((name) => join(world.folder, 'runs', 'chain', name, 'checkpoint')));
  expect([...heard]).toEqual([undefined, 'first', 'second']);
  expect(made(stages)).toContain('second/training');
  for (const name of ['first', 'second'])
    expect(readdirSync(join(world.folder, 'runs', 'chain', name))).toContain('stages.json');

  const again = (await chain({}, {}, true)).stages;
  expect(made(again)).toEqual([]);
  expect(statusOf(again, 'second/training')).toBe('reused');
  expect(made((await chain({})).stages)).toEqual([]);
  const changed = { train: { steps: 4 } };
  const expected = ['second/training', 'second/checkpoint', 'second/evaluation'];
  expect(made((await chain(changed, {}, true)).stages)).toEqual(expected);
  expect(made((await chain(changed)).stages)).toEqual(expected);
  // A run inside a run is a run: alone, it finds its artefacts.
  const alone = await distill(options(join('chain', 'first')));
  expect(Object.values(alone.stages).every((status) => status === 'reused')).toBe(true);
});

test('rounds are runs inside a run: a stopped one goes on, a finished one is used, and a dry run says so', async () => {
  const active = (name: string, more: Partial<ConfigInput> = {}) =>
    options(name, {
      pipeline: 'active',
      querySelection: { kind: 'margin', budget: 24 },
      active: { rounds: 2, restart: false },
      train: { steps: 6, saveEvery: 2 },
      ...more,
    });
  const model = (name: string): Buffer =>
    readFileSync(join(world.folder, 'runs', name, 'checkpoint', 'onnx', 'model.onnx'));
  const whole = await distill(active('active'));
  expect(Object.keys(whole.stages)).toContain('round-2/training');
  expect(made(await planRun(active('active')))).toEqual([]);

  const stop = new AbortController();
  const stopped = distill(active('stopped'), {
    signal: stop.signal,
    onProgress: (p) => p.run === 'round-2' && p.unit === 'steps' && p.done === 3 && stop.abort(new Error('stopped')),
  });
  await expect(stopped).rejects.toThrow('stopped');
  const plan = await planRun(active('stopped'));
  expect(statusOf(plan, 'round-1/training')).toBe('reused');
  expect(plan.find((s) => s.stage === 'round-2/training')).toMatchObject({
    status: 'made',
    why: expect.stringMatching(/^it goes on from step [23]$/),
  });
  const resumed = await distill(active('stopped'));
  expect(resumed.stages['round-1/training']).toBe('reused');
  expect(model('stopped').equals(model('active'))).toBe(true);
});
