import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { runCase } from '../../bench/zoo.ts';
import { shared } from '../shared.ts';

const cases = shared ? readdirSync(join(shared, 'zoo')).map((name) => join(shared as string, 'zoo', name)) : [];

describe.skipIf(!shared)('gradients of tiny encoders equal their float64 references', () => {
  for (const folder of cases)
    for (const fuse of [true, false])
      test(`${folder.split('/').at(-1)}${fuse ? '' : ', operators as exported'}`, async () => {
        const result = await runCase(folder, { fuse });
        expect(Math.abs(result.loss - result.reference)).toBeLessThan(1e-5 * Math.abs(result.reference));
        expect(result.error, result.worst).toBeLessThan(1e-4);
      });
});
