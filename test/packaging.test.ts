import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';

test('the packed file holds dist, README and LICENSE and nothing else', () => {
  const out = mkdtempSync(join(tmpdir(), 'pack-'));
  const json = execFileSync('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', out], {
    cwd: resolve('.'),
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [packed] = JSON.parse(json.toString()) as { files: { path: string }[] }[];
  const outside = packed.files
    .map((f) => f.path)
    .filter((p) => !/^(dist\/.+\.(js|d\.ts)|README\.md|LICENSE|package\.json)$/.test(p));
  expect(outside).toEqual([]);
  expect(readdirSync(out)).toHaveLength(1);
});
