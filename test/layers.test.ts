/** @file Imports point one way: a folder may use those before it and itself. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';

/** Each line may import from itself and the lines above. */
const order = [
  ['common'],
  ['engine/graph', 'data'],
  ['engine/expressions'],
  ['engine/autodiff'],
  ['engine/runtime'],
  ['engine'],
  ['losses', 'selection', 'weighting', 'evaluation'],
  ['teachers', 'students', 'training'],
  ['pipelines'],
  ['cli', 'index.ts'],
];

function levelOf(path: string): number {
  let [level, length] = [-1, -1];
  for (const [i, folders] of order.entries())
    for (const folder of folders)
      if ((path === folder || path.startsWith(`${folder}/`)) && folder.length > length)
        [level, length] = [i, folder.length];
  return level;
}

function files(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((e) =>
    e.isDirectory() ? files(join(folder, e.name)) : e.name.endsWith('.ts') ? [join(folder, e.name)] : [],
  );
}

test('every import goes to the same layer or one before it, and carries its extension', () => {
  const tops = [...new Set(order.flat().map((f) => f.split('/')[0]))].filter(
    (f) => !f.endsWith('.ts') && existsSync(f),
  );
  const wrong: string[] = [];
  for (const file of [...tops.flatMap(files), 'index.ts'])
    for (const [, target] of readFileSync(file, 'utf8').matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
      if (!target.endsWith('.ts') && !target.endsWith('.json')) wrong.push(`${file}: '${target}' has no extension`);
      const path = relative('.', resolve(dirname(file), target));
      if (levelOf(path) > levelOf(file)) wrong.push(`${file} imports ${path}`);
    }
  expect(wrong).toEqual([]);
});
