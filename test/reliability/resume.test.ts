/**
 * @file A run that is killed at random moments and started again ends with the same model, byte for byte, as one left alone; a
 * second run into its folder is refused; Ctrl-C saves and goes on. KILLS sets how many kills (20 and more overnight).
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { Random } from '../../math/random.ts';
import { makeWorld } from '../cli/world.ts';
import { build, type Fault, heard, modelHash, type Running, start as startCommand } from './command.ts';

const KILLS = Number(process.env.KILLS ?? 2);
const SEED = Number(process.env.KILL_SEED ?? 1);
/** Over all stages of a run: scoring, training with renewed weights and evaluations, saving, evaluating. */
const sets = [
  'train={provider: cpu, steps: 120, batchSize: 4, candidates: 4, warmupSteps: 5, threads: 1, evaluateEvery: 20, saveEvery: 7, dropout: 0.1}',
  'weighting={kind: agreement, renew: 15}',
  'student={fresh: {hidden: 16, layers: 1, heads: 2, maxLength: 64, vocabulary: 200}, queryTokens: 16, documentTokens: 32}',
];

let world: string;
beforeAll(async () => {
  build();
  world = await makeWorld();
}, 120_000);

function start(name: string, more: readonly string[] = [], fault?: Fault): Running {
  const all = [`output=${world}/${name}`, `cache=${world}/${name}-cache`, ...sets, ...more];
  return startCommand(['run', join(world, 'distill.yaml'), ...all.flatMap((s) => ['--set', s])], fault);
}

const modelOf = (name: string): string => modelHash(join(world, name, 'checkpoint'));
const reportOf = (name: string) => JSON.parse(readFileSync(join(world, name, 'report.json'), 'utf8'));

let whole: { hash: string; milliseconds: number };
beforeAll(async () => {
  const began = performance.now();
  const run = start('whole');
  if (await run.ended) throw new Error(run.said());
  whole = { hash: modelOf('whole'), milliseconds: performance.now() - began };
}, 60_000);

test(`killed ${KILLS} times, it ends with the same bytes`, { timeout: 60_000 + KILLS * 20_000 }, async () => {
  const random = Random.of(SEED, 'kills');
  let [killed, resumed, runs] = [0, 0, 0];
  while (killed < KILLS) {
    const name = `killed-${runs++}`;
    for (;;) {
      const run = start(name);
      const timer =
        killed < KILLS
          ? setTimeout(() => run.child.kill('SIGKILL'), 300 + random.uniform() * whole.milliseconds)
          : undefined;
      const code = await run.ended;
      clearTimeout(timer);
      if (run.said().includes('resuming from step')) resumed++;
      expect(run.said()).not.toMatch(/damaged|another training/);
      if (code === 0) break;
      expect(run.child.signalCode, run.said()).toBe('SIGKILL');
      killed++;
    }
    expect(modelOf(name)).toBe(whole.hash);
    const [a, b] = [reportOf(name), reportOf('whole')];
    expect(a.evaluations).toEqual(b.evaluations);
    expect(a.log.map((e: { loss: number }) => e.loss)).toEqual(b.log.map((e: { loss: number }) => e.loss));
    expect(readdirSync(join(world, name)).sort()).toEqual(readdirSync(join(world, 'whole')).sort());
  }
  console.log(`${killed} kills over ${runs} runs, ${resumed} went on from saved state`);
});

test('Ctrl-C saves, says how to go on, exits 130; a second run meanwhile is refused; a torn state is told and made again', {
  timeout: 60_000,
}, async () => {
  const run = start('stopped');
  await heard(run, /step 20: dev score/);
  // Held still, so that it is there for as long as the second takes to start.
  run.child.kill('SIGSTOP');
  const second = start('stopped');
  expect(await second.ended).toBe(2);
  expect(second.said()).toContain(
    `the output folder ${world}/stopped is in use by process ${run.child.pid}; wait for it`,
  );
  run.child.kill('SIGINT');
  run.child.kill('SIGCONT');
  expect(await run.ended).toBe(130);
  expect(run.said()).toMatch(/state saved at step \d+ of 120[\s\S]*stopped; run the same command again to continue/);
  expect(existsSync(join(world, 'stopped', 'run.lock'))).toBe(false);

  // Another rate is another training.
  const other = start('stopped', ['train.learningRate=0.001', 'train.saveEvery=1000']);
  await heard(other, /belongs to another training \(train\.learningRate changed\), training starts from the beginning/);
  other.child.kill('SIGKILL');
  await other.ended;

  const training = join(world, 'stopped', 'training');
  const state = readdirSync(training).find((n) => n.startsWith('state-')) as string;
  const bytes = readFileSync(join(training, state));
  bytes[bytes.length - 9] ^= 1;
  writeFileSync(join(training, state), bytes);
  const again = start('stopped');
  expect(await again.ended).toBe(0);
  expect(again.said()).toMatch(/the saved state is damaged \(the checksum of state-\d+\.safetensors does not match\)/);
  expect(modelOf('stopped')).toBe(whole.hash);
});

test('SIGTERM saves too and exits 143; a second signal stops at once, and what it leaves is taken over', {
  timeout: 60_000,
}, async () => {
  const terminated = start('terminated');
  await heard(terminated, /step 20: dev score/);
  terminated.child.kill('SIGTERM');
  expect(await terminated.ended).toBe(143);
  expect(terminated.said()).toMatch(
    /state saved at step \d+ of 120[\s\S]*stopped; run the same command again to continue/,
  );

  // Both wait while the process is held still: it finds two and does not finish its step.
  const twice = start('terminated');
  await heard(twice, /resuming from step \d+/);
  twice.child.kill('SIGSTOP');
  twice.child.kill('SIGINT');
  twice.child.kill('SIGTERM');
  twice.child.kill('SIGCONT');
  const code = await twice.ended;
  expect([130, 143]).toContain(code);
  expect(twice.said()).not.toContain('stopped; run the same command');
  const lock = join(world, 'terminated', 'run.lock');
  expect(JSON.parse(readFileSync(lock, 'utf8')).pid).toBe(twice.child.pid);

  const last = start('terminated');
  expect(await last.ended, last.said()).toBe(0);
  expect(existsSync(lock)).toBe(false);
  expect(modelOf('terminated')).toBe(whole.hash);
});

test('two runs share a cache: each ends as if it had been alone, and one killed while it writes holds nobody up', {
  timeout: 60_000,
}, async () => {
  const shared = [`cache=${world}/shared-cache`];
  const killed = start('dies', shared, { call: 'crc32', nth: 40 });
  await killed.ended;
  expect(killed.child.signalCode).toBe('SIGKILL');
  const [a, b] = [start('left', shared), start('right', shared)];
  expect([await a.ended, await b.ended], a.said() + b.said()).toEqual([0, 0]);
  expect([modelOf('left'), modelOf('right')]).toEqual([whole.hash, whole.hash]);
});
