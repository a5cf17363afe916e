/**
 * @file Runs a benchmark by name: `npm run bench -- NAME [arguments]`.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

const names = [
  'cache',
  'device',
  'encode',
  'growth',
  'index',
  'large',
  'loss',
  'million',
  'real',
  'score',
  'soak',
  'step',
];
const [name, ...rest] = process.argv.slice(2);
const file = [`${name}.js`, `${name}-bench.js`].map((f) => join(import.meta.dirname, f)).find(existsSync);
if (!name || !names.includes(name) || !file) {
  console.error(`usage: npm run bench -- NAME [arguments]; benchmarks are ${names.join(', ')}`);
  process.exitCode = 2;
} else process.exitCode = spawnSync(process.execPath, [file, ...rest], { stdio: 'inherit' }).status ?? 1;
