/** @file Runs a benchmark by name: `npm run bench -- NAME [arguments]`. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';

/** Benchmarks by name, with their files. */
const benchmarks: Readonly<Record<string, string>> = {
  architectures: 'limits/architectures-bench',
  bytes: 'limits/step-bytes',
  cache: 'limits/cache-bench',
  cascade: 'limits/cascade-bench',
  device: 'peers/device',
  encode: 'peers/encode',
  growth: 'limits/growth',
  index: 'limits/index-bench',
  large: 'limits/large',
  loss: 'peers/loss',
  million: 'limits/million',
  open: 'limits/open-index',
  precision: 'peers/precision',
  queries: 'limits/queries-bench',
  rates: 'peers/rates',
  real: 'peers/real',
  robustness: 'late/robustness',
  rows: 'limits/rows-bench',
  score: 'peers/score',
  soak: 'limits/soak',
  split: 'late/split',
  step: 'peers/step',
  'to-quality': 'quality/to-quality',
  threads: 'limits/scan-threads',
  vectors: 'limits/vectors',
};
const [name = '', ...rest] = process.argv.slice(2);
if (!Object.hasOwn(benchmarks, name)) {
  console.error(`usage: npm run bench -- NAME [arguments]; benchmarks are ${Object.keys(benchmarks).join(', ')}`);
  process.exitCode = 2;
} else {
  const file = join(import.meta.dirname, `${benchmarks[name]}.js`);
  process.exitCode = spawnSync(process.execPath, [file, ...rest], { stdio: 'inherit' }).status ?? 1;
}
