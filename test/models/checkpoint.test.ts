/** @file A checkpoint whose tokenizer vanished or was damaged on the way is not written. */
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { distill } from '../../pipelines/distill.ts';
import { makeWorld, type World } from '../pipelines/world.ts';

let world: World;
const dir = mkdtempSync(join(tmpdir(), 'checkpoint-'));
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => {
  rmSync(dir, { recursive: true });
  rmSync(world.folder, { recursive: true });
});

test('a tokenizer.json that vanishes or breaks during training: one sentence, and the next run finishes', async () => {
  const file = join(world.student, 'tokenizer.json');
  const config = {
    data: { path: world.data },
    student: { kind: 'model' as const, model: world.student },
    losses: [{ kind: 'info-nce' as const }],
    train: { steps: 2, batchSize: 8, candidates: 2, provider: 'cpu' as const },
    evaluate: { bm25: false, before: false },
    output: join(dir, 'out'),
    cache: join(dir, 'cache'),
  };
  const spoiled = (how: () => void) => {
    let done = false;
    return distill(config, {
      onProgress({ stage }) {
        if (done || stage !== 'train') return;
        done = true;
        how();
      },
    });
  };
  await expect(spoiled(() => renameSync(file, `${file}.away`))).rejects.toMatchObject({
    message: expect.stringMatching(
      /^the tokenizer of \S+student cannot be copied: its files have changed since it was opened; restore its files/,
    ),
    exitCode: 2,
  });
  expect(existsSync(join(dir, 'out', 'checkpoint'))).toBe(false);
  renameSync(`${file}.away`, file);
  const report = await distill(config);
  expect(readdirSync(report.checkpoint)).toContain('tokenizer.json');
  rmSync(join(dir, 'out'), { recursive: true });
  await expect(spoiled(() => writeFileSync(file, '{'))).rejects.toThrow(
    /cannot be copied: \S+student\/tokenizer\.json/,
  );
  expect(existsSync(join(dir, 'out', 'checkpoint'))).toBe(false);
});
