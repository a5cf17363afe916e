/**
 * @file Kills at the points where a kill could cost something: each artefact half written, each swap half done. One run is
 * killed at each of them in turn, and what it ends with is what a run left alone ends with.
 */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { makeWorld } from '../cli/world.ts';
import { build, type Fault, modelHash, start } from './command.ts';

const sets = [
  'train={provider: cpu, steps: 16, batchSize: 4, candidates: 4, warmupSteps: 2, threads: 1, evaluateEvery: 6, saveEvery: 4}',
  'student={fresh: {hidden: 16, layers: 1, heads: 2, maxLength: 64, vocabulary: 200}, queryTokens: 16, documentTokens: 32}',
  'export={dtype: fp32, tolerance: 10}',
];

/** In the order in which a run comes past them; those marked are always tried, all of them where KILLS is set. */
const all: (Fault & { always?: boolean })[] = [
  { call: 'write', path: 'onnx-distill\\.json', when: 'half', always: true },
  { call: 'rename', path: 'onnx-distill\\.json$', when: 'after' },
  { call: 'rename', path: 'fresh\\.new$', when: 'before' },
  { call: 'write', path: 'stages/candidates', when: 'half' },
  { call: 'rename', path: 'stages/candidates', when: 'after' },
  { call: 'crc32', nth: 40, always: true }, // within the transaction that keeps scores
  { call: 'write', path: 'state-4', when: 'half' },
  { call: 'rename', path: 'state\\.json$', when: 'before' },
  { call: 'write', path: 'best-6', when: 'half' },
  { call: 'rm', path: 'state-4', when: 'before' },
  { call: 'write', path: 'state\\.json', when: 'half', always: true },
  { call: 'write', path: 'trained\\.safetensors', when: 'half' },
  { call: 'rename', path: 'trained\\.json$', when: 'after' },
  { call: 'write', path: 'stages\\.json', when: 'half', always: true },
  { call: 'rm', path: 'state-16', when: 'before' },
  { call: 'write', path: 'checkpoint\\.part/onnx/model', when: 'half' },
  { call: 'rename', path: 'checkpoint\\.new$', when: 'before' },
  { call: 'rename', path: 'checkpoint\\.new$', when: 'after' },
  { call: 'rename', path: 'checkpoint$', when: 'after' },
  { call: 'rename', path: 'checkpoint\\.old$', when: 'after', always: true },
  { call: 'rm', path: 'checkpoint\\.old$', when: 'before', nth: 2 },
  { call: 'write', path: 'report\\.json', when: 'half', always: true },
  { call: 'rename', path: 'report\\.json$', when: 'after' },
  { call: 'write', path: 'report\\.html', when: 'half' },
  { call: 'write', path: 'export\\.export', when: 'half' },
  { call: 'rename', path: 'export\\.new$', when: 'before' },
  { call: 'rename', path: 'export\\.new$', when: 'after' },
  { call: 'write', path: 'export\\.json', when: 'half', always: true },
  { call: 'rename', path: 'export\\.json$', when: 'after' },
];
const faults = all.filter((f) => process.env.KILLS || f.always);

test('killed at every point that matters, a run ends with the same bytes', { timeout: 180_000 }, async () => {
  build();
  const world = await makeWorld();
  const run = (name: string, fault?: Fault) => {
    const all = [`output=${world}/${name}`, `cache=${world}/${name}-cache`, ...sets];
    return start(['run', join(world, 'distill.yaml'), ...all.flatMap((s) => ['--set', s])], fault);
  };
  const whole = run('whole');
  expect(await whole.ended, whole.said()).toBe(0);
  for (const fault of faults) {
    const killed = run('killed', fault);
    await killed.ended;
    expect(killed.child.signalCode, `${JSON.stringify(fault)}\n${killed.said()}`).toBe('SIGKILL');
    expect(killed.said()).not.toMatch(/not whole|another training/);
  }
  const last = run('killed');
  expect(await last.ended, last.said()).toBe(0);
  for (const made of ['checkpoint', 'export'])
    expect(modelHash(join(world, 'killed', made))).toBe(modelHash(join(world, 'whole', made)));
  const names = (name: string): string[] =>
    readdirSync(join(world, name), { recursive: true, encoding: 'utf8' }).sort();
  expect(names('killed')).toEqual(names('whole'));
});
