import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runCase } from '../../bench/reference/zoo.ts';
import { shared } from '../shared.ts';

const inside = (folder: string): string[] => readdirSync(folder).sort().map((name) => join(folder, name)); // biome-ignore format: one line
const own = inside(join(import.meta.dirname, '../fixtures/zoo'));
const given = shared ? inside(join(shared, 'zoo')) : [];

describe('gradients of tiny encoders and cross-encoders equal their float64 references', () => {
  for (const folder of [...own, ...given])
    for (const fuse of [true, false])
      test(`${folder.split('/').at(-1)}${fuse ? '' : ', operators as exported'}`, async () => {
        const result = await runCase(folder, { fuse });
        expect(Math.abs(result.loss - result.reference)).toBeLessThan(1e-5 * Math.abs(result.reference));
        expect(result.error, result.worst).toBeLessThan(1e-4);
        expect(result.cut ?? 0, 'outputs of the model with layers cut').toBeLessThan(1e-4);
      });
});

test('gradients in float64 equal the references to 1e-9', async () => {
  const { float64 } = await runCase(own.find((f) => f.endsWith('bert-dynamo23')) as string, { float64: true });
  expect(float64 && 'error' in float64 ? float64.error : float64).toBeLessThan(1e-9);
});
