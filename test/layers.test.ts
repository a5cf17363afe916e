/** @file Imports point one way: between folders, between files, and without circles. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';

/** Each line may import from itself and the lines above. `static` stands alone: browsers load it. */
const order = [
  ['static'],
  ['common'],
  ['math'],
  ['data', 'engine/graph'],
  ['generation'],
  ['engine/io'],
  ['engine/expressions', 'engine/passes'],
  ['engine/autodiff'],
  ['engine/runtime'],
  ['engine'],
  ['losses', 'selection', 'weighting'],
  ['models', 'retrieval'],
  ['evaluation', 'adaptive'],
  ['teachers', 'students'],
  ['training'],
  ['config'],
  ['serving', 'candidates'],
  ['evaluation/systems', 'search'],
  ['checkpoints', 'run/stages'],
  ['run'],
  ['evaluation/runs'],
  ['run/estimate', 'teachers/jobs'],
  ['pipelines/prepare'],
  ['pipelines/fit', 'pipelines/publish'],
  ['pipelines'],
  ['demo-world'],
  ['cli', 'index.ts'],
];

/** Folders that hold no part of the library. */
const outside = new Set(['bench', 'dist', 'docs', 'examples', 'node_modules', 'runs', 'test']);
/** A folder of members of one kind may hold more files than this. */
const MOST_FILES = 16;
const membersOfOneKind = new Set(['losses']);

const files = (folder: string): string[] =>
  readdirSync(folder, { withFileTypes: true }).flatMap((e) => {
    const path = join(folder, e.name);
    if (e.isDirectory()) return outside.has(path) || e.name.startsWith('.') ? [] : files(path);
    return /\.ts$/.test(e.name) && e.name !== 'vitest.config.ts' ? [path] : [];
  });

const imports = new Map(
  files('.').map((file) => {
    const found = readFileSync(file, 'utf8').matchAll(/(?:from|import\(|import)\s*'(\.[^']+)'/g);
    return [file, [...new Set(Array.from(found, ([, target]) => normalize(join(dirname(file), target))))]];
  }),
);

function levelOf(path: string): number {
  let [level, length] = [-1, -1];
  for (const [i, folders] of order.entries())
    for (const folder of folders)
      if ((path === folder || path.startsWith(`${folder}/`)) && folder.length > length)
        [level, length] = [i, folder.length];
  return level;
}

/** Groups of nodes that reach each other (Tarjan's strongly connected components of two and more). */
function circles(arrows: ReadonlyMap<string, readonly string[]>): string[][] {
  const index = new Map<string, number>();
  const low = new Map<string, number>();
  const open: string[] = [];
  const found: string[][] = [];
  const visit = (node: string) => {
    index.set(node, index.size);
    low.set(node, index.get(node)!);
    open.push(node);
    for (const next of arrows.get(node) ?? [])
      if (!index.has(next)) {
        visit(next);
        low.set(node, Math.min(low.get(node)!, low.get(next)!));
      } else if (open.includes(next)) low.set(node, Math.min(low.get(node)!, index.get(next)!));
    if (low.get(node) !== index.get(node)) return;
    const group = open.splice(open.indexOf(node));
    if (group.length > 1) found.push(group.sort());
  };
  for (const node of arrows.keys()) if (!index.has(node)) visit(node);
  return found;
}

test('every import goes to the same layer or one before it, and carries its extension', () => {
  const wrong: string[] = [];
  for (const [file, targets] of imports) {
    if (levelOf(file) < 0) wrong.push(`${file} is in no layer: name its folder in test/layers.test.ts`);
    for (const target of targets) {
      if (!/\.(ts|json)$/.test(target)) wrong.push(`${file}: '${target}' has no extension`);
      if (!target.endsWith('.json') && levelOf(target) > levelOf(file)) wrong.push(`${file} imports ${target}`);
    }
  }
  expect(wrong).toEqual([]);
});

test('static imports nothing from outside itself', () => {
  const wrong = [...imports].filter(
    ([file, targets]) => file.startsWith('static/') && targets.some((t) => !t.startsWith('static/')),
  );
  expect(wrong).toEqual([]);
});

test('no circle of files, none of folders', () => {
  expect(circles(imports)).toEqual([]);
  const folders = new Map<string, string[]>();
  for (const [file, targets] of imports) {
    const from = dirname(file);
    const to = targets.map(dirname).filter((t) => t !== from && t !== '.');
    folders.set(from, [...(folders.get(from) ?? []), ...to]);
  }
  expect(circles(folders)).toEqual([]);
});

test('a circle is found', () => {
  const arrows = { a: ['b'], b: ['c'], c: ['a', 'd'], d: [] };
  expect(circles(new Map(Object.entries(arrows)))).toEqual([['a', 'b', 'c']]);
});

test(`no folder holds more than ${MOST_FILES} files, members of one kind aside`, () => {
  const count = new Map<string, number>();
  for (const file of [...imports.keys(), ...files('bench')])
    count.set(dirname(file), (count.get(dirname(file)) ?? 0) + 1);
  expect([...count].filter(([folder, n]) => n > MOST_FILES && !membersOfOneKind.has(folder))).toEqual([]);
});
