/** @file `distill train-teacher` killed, stopped and started twice: the same bytes, one at a time. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeWorld } from '../cli/world.ts';
import { build, type Fault, heard, modelHash, type Running, start } from './command.ts';

const sets = [
  'train={steps: 60, batchSize: 4, candidates: 4, warmupSteps: 2, evaluateEvery: 20, saveEvery: 10, threads: 1}',
];
/** In the order in which a training comes past them; the last always, all of them where KILLS is set. */
const all: Fault[] = [
  { call: 'rename', path: 'candidate\\.new$', when: 'after' },
  { call: 'rename', path: 'state\\.json$', when: 'after' },
  { call: 'rename', path: 'teacher\\.new$', when: 'after' },
];
const faults = process.env.KILLS ? all : all.slice(-1);

test('killed, stopped and started twice, it ends with the same bytes', { timeout: 120_000 }, async () => {
  build();
  const world = await makeWorld();
  const train = (name: string, fault?: Fault): Running => {
    const options = ['--data', join(world, 'data'), '--model', join(world, 'dual'), '--output', join(world, name)];
    return start(['train-teacher', ...options, ...sets.flatMap((s) => ['--set', s])], fault);
  };
  const whole = train('whole');
  expect(await whole.ended, whole.said()).toBe(0);

  const stopped = train('teacher');
  await heard(stopped, /step 20: dev score/);
  stopped.child.kill('SIGSTOP');
  const second = train('teacher');
  expect(await second.ended).toBe(2);
  expect(second.said()).toContain(`${world}/teacher is in use by process ${stopped.child.pid}; wait for it`);
  stopped.child.kill('SIGINT');
  stopped.child.kill('SIGCONT');
  expect(await stopped.ended, stopped.said()).toBe(130);
  expect(existsSync(join(world, 'teacher'))).toBe(false);

  for (const fault of faults) {
    const killed = train('teacher', fault);
    await killed.ended;
    expect(killed.child.signalCode, `${JSON.stringify(fault)} ${killed.said()}`).toBe('SIGKILL');
  }
  const last = train('teacher');
  expect(await last.ended, last.said()).toBe(0);
  expect(last.said()).toContain('resuming from step');
  expect(modelHash(join(world, 'teacher'))).toBe(modelHash(join(world, 'whole')));
  const named = (name: string) => readdirSync(world).filter((n) => n.startsWith(name));
  expect(named('teacher').filter((n) => !n.endsWith('.tsv'))).toEqual(['teacher']);
});
