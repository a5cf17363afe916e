/**
 * @file What is installed with the toolkit: docs/licences.md lists it, every licence permits any use, and nothing runs when it is
 * installed but what is known to. `npm run licences` writes the list anew from package-lock.json.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';

interface Package {
  version: string;
  license?: string;
  dev?: boolean;
  /** Wanted by a development tool, or by an optional peer. */
  devOptional?: boolean;
  optional?: boolean;
  hasInstallScript?: boolean;
}

const LIST = 'docs/licences.md';
const permissive = new Set(['0BSD', 'Apache-2.0', 'BSD-2-Clause', 'BSD-3-Clause', 'CC0-1.0', 'ISC', 'MIT']);

/** What runs at installation, and what it does. */
const installers: Record<string, string> = {
  'onnxruntime-node': 'the runtime: fetches its CUDA libraries where they are asked for',
  lmdb: 'looks for its prebuilt binary, which npm has installed already; compiles where there is none',
  'msgpackr-extract': 'the same, for a part of lmdb that is optional',
};

const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as { packages: Record<string, Package> };
const shipped = Object.entries(packages)
  .filter(([path, p]) => path && !p.dev && !p.devOptional)
  .map(([path, p]) => ({ name: path.split('node_modules/').at(-1) as string, ...p }))
  .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.version < b.version ? -1 : 1));

/** `(MIT OR CC0-1.0)`, `Apache-2.0 AND BSD-3-Clause`. */
const isPermissive = (licence = ''): boolean =>
  licence
    .replace(/[()]/g, ' ')
    .split(/ AND /)
    .every((part) => part.split(/ OR /).some((id) => permissive.has(id.trim())));

function list(): string {
  const rows = new Set(shipped.map((p) => `| ${p.name} | ${p.version} | ${p.license ?? '?'} |`));
  return [
    '# Licences of what is shipped',
    '',
    'onnx-distill is under Apache-2.0 (LICENSE). `npm install onnx-distill` installs these with it; of the packages by platform, one each. Written from package-lock.json by `npm run licences`; test/licences.test.ts fails where a dependency is new or its licence is not permissive.',
    '',
    '| package | version | licence |',
    '| --- | --- | --- |',
    ...rows,
    '',
    '## Install scripts',
    '',
    ...Object.entries(installers).map(([name, what]) => `- ${name}: ${what}`),
    '',
    'Nothing else runs at installation. With `npm install --ignore-scripts` none of them runs, and the toolkit works on the processor where both runtime and store come prebuilt (Linux and Windows on x64 and arm64, macOS on arm64).',
    '',
  ].join('\n');
}

if (process.env.LICENCES === 'write') writeFileSync(LIST, list());

test('the list holds every shipped dependency', () => {
  const plain = (markdown: string): string[] =>
    markdown
      .split('\n')
      .map((l) => l.replace(/\s*\|\s*/g, '|').replace(/\|[-|]+\|/, ''))
      .filter(Boolean);
  expect(plain(readFileSync(LIST, 'utf8'))).toEqual(plain(list()));
});

test('every licence is permissive', () => {
  expect(shipped.length).toBeGreaterThan(20);
  expect(shipped.filter((p) => !isPermissive(p.license)).map((p) => `${p.name}: ${p.license}`)).toEqual([]);
  for (const bad of [undefined, 'GPL-3.0', 'MIT AND GPL-3.0', 'UNLICENSED', 'SEE LICENSE IN x'])
    expect(isPermissive(bad)).toBe(false);
});

test('nothing else runs at installation', () => {
  const found = shipped.filter((p) => p.hasInstallScript).map((p) => p.name);
  expect([...new Set(found)].sort()).toEqual(Object.keys(installers).sort());
});
