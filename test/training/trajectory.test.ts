import { join } from 'node:path';
import { expect, test } from 'vitest';
import { trajectory } from '../../bench/reference/trajectory.ts';
import { shared } from '../shared.ts';

test.skipIf(!shared)("the first steps of training are PyTorch's", async () => {
  let steps = 0;
  for await (const step of trajectory(
    join(shared as string, 'reference/minilm-debian-10-steps.json'),
    shared as string,
  )) {
    expect(step.ok, JSON.stringify(step)).toBe(true);
    if (++steps === 3) break;
  }
  expect(steps).toBe(3);
});
