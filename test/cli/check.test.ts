/** @file `distill check` of re-rankers: what was understood, and a refusal where scoring would refuse. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { shared } from '../shared.ts';
import { distill } from './world.ts';

const generative = join(import.meta.dirname, '../fixtures/generative/qwen3');
const dir = mkdtempSync(join(tmpdir(), 'check-'));
afterAll(() => rmSync(dir, { recursive: true }));

test('a generative re-ranker: how it scores, what it takes and reads', async () => {
  const { code, out } = await distill('check', generative);
  expect(code).toBe(0);
  for (const line of [
    "score       the logit of 'yes' minus that of 'no' after the prompt of Qwen3-Reranker's card",
    'takes       position_ids int64 [batch_size, sequence_length]: 0, 1, 2',
    'reads       512 tokens a pair',
    "note        the prompt is that of Qwen3-Reranker's card, by its model_type",
    'it scores pairs as a teacher',
  ])
    expect(out).toContain(line);
  const { out: json } = await distill('check', generative, '--json');
  expect(JSON.parse(json).teacher).toMatchObject({ limit: '512 tokens a pair' });
});

test('what scoring refuses is refused with exit code 2', async () => {
  const folder = join(dir, 'llama');
  cpSync(generative, folder, { recursive: true });
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, model_type: 'llama' }));
  const { code, out, err } = await distill('check', folder);
  expect(code).toBe(2);
  expect(out).toBe('');
  expect(err).toContain("is a causal language model of the family 'llama' whose prompt is not known");
});

describe.skipIf(!shared)('cases', () => {
  test('a re-ranker that training does not read scores pairs all the same', async () => {
    const { code, out } = await distill('check', join(shared ?? '', 'cases/deberta-if/teacher'));
    expect(code).toBe(0);
    expect(out).toMatch(/it scores pairs as a teacher\nit cannot be trained here: .* node If \('If_688'\)/);
  });

  test('labels are said', async () => {
    const { out } = await distill('check', join(shared ?? '', 'cases/two-labels-order/teacher'));
    expect(out).toContain("score       the logit of 'entailment' minus that of 'not_entailment'");
  });
});
