/** @file `distill narrow`: a folder with smaller matrices that a run trains further. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { narrow } from '../../checkpoints/narrow.ts';
import { Encoder } from '../../models/encoder.ts';
import { loadStudent } from '../../students/encoder-student.ts';
import { widthsOf } from '../../students/narrow/narrow.ts';
import { makeWorld, type World } from '../pipelines/world.ts';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => rmSync(world.folder, { recursive: true, force: true }));

test('half of the heads and a quarter of the units; PyTorch weights where a class has such layers', async () => {
  const options = { model: world.dualEncoder, data: world.data, batchSize: 8, rounds: 2, tokens: 24 };
  const units = await narrow({ ...options, units: 32, output: join(world.folder, 'units') });
  expect(existsSync(join(units.output, 'model.safetensors'))).toBe(true);
  expect(JSON.parse(readFileSync(join(units.output, 'config.json'), 'utf8')).intermediate_size).toBe(32);
  const both = await narrow({ ...options, heads: 1, units: 32, output: join(world.folder, 'both') });
  expect(existsSync(join(both.output, 'model.safetensors'))).toBe(false);
  expect(both.bytes.after).toBeLessThan(units.bytes.after);
  expect(units.bytes.after).toBeLessThan(units.bytes.before);
  expect(await widthsOf((await loadStudent(both.output)).graph)).toEqual([{ heads: 1, units: 32 }]);
  const encoder = await Encoder.load(both.output, { comparable: true });
  const vectors = await encoder.encode(['red lamp']);
  expect(Math.hypot(...vectors)).toBeCloseTo(1, 5);
  await encoder.dispose();
});
