import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';

/** The readme's example as it stands there, with the package's name resolved to its source. */
test("the readme's two-layer network learns XOR in about twenty lines", async () => {
  const root = join(import.meta.dirname, '../..');
  const readme = readFileSync(join(root, 'engine/README.md'), 'utf8');
  const example = /```ts\n(import [\s\S]*?)```/.exec(readme)?.[1] as string;
  expect(example.split('\n').filter((line) => line.trim()).length).toBeLessThanOrEqual(32);
  const folder = mkdtempSync(join(import.meta.dirname, 'example-'));
  const said: unknown[] = [];
  const log = vi.spyOn(console, 'log').mockImplementation((...values) => void said.push(...values));
  try {
    const file = join(folder, 'example.ts');
    writeFileSync(file, example.replace("'onnx-distill/engine'", `'${join(root, 'engine/index.ts')}'`));
    await import(file);
  } finally {
    log.mockRestore();
    rmSync(folder, { recursive: true });
  }
  expect(said).toHaveLength(1);
  expect(said[0]).toBeLessThan(1e-3);
});
