import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const out = mkdtempSync(join(tmpdir(), 'pack-'));
const folder = mkdtempSync(join(tmpdir(), 'installed-'));
let files: string[] = [];
let tarball = '';

beforeAll(() => {
  // `prepare` builds types and JavaScript first, so that what is packed is what stands here.
  const json = execFileSync('npm', ['pack', '--json', '--pack-destination', out], {
    cwd: resolve('.'),
    stdio: ['ignore', 'pipe', 'ignore'],
  }).toString();
  const [packed] = JSON.parse(json.slice(json.indexOf('['))) as { files: { path: string }[] }[];
  files = packed.files.map((f) => f.path);
  tarball = join(out, readdirSync(out)[0]);
}, 240_000);
afterAll(() => {
  for (const f of [out, folder]) rmSync(f, { recursive: true, force: true });
});

test('the packed file holds dist, README and LICENSE and nothing else', () => {
  const allowed = /^(dist\/.+\.(js|d\.ts)|README\.md|LICENSE|package\.json)$/;
  expect(files.filter((p) => !allowed.test(p))).toEqual([]);
  for (const p of ['dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js', 'README.md', 'LICENSE'])
    expect(files).toContain(p);
  expect(readdirSync(out)).toHaveLength(1);
});

test('installed into an empty folder it says its version and runs the demo', (context) => {
  // Else the runtime's install script asks the network for a GPU build that is not needed.
  copyFileSync('.npmrc', join(folder, '.npmrc'));
  writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');
  const install = spawnSync('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball], {
    cwd: folder,
    encoding: 'utf8',
    timeout: 300_000,
  });
  if (install.status !== 0 && /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH/.test(install.stderr))
    return context.skip('the npm registry is not reachable');
  expect(install.status, install.stderr).toBe(0);

  const distill = join(folder, 'node_modules', '.bin', 'distill');
  const version = (JSON.parse(readFileSync('package.json', 'utf8')) as { version: string }).version;
  expect(execFileSync(distill, ['--version'], { cwd: folder, encoding: 'utf8' }).trim()).toBe(version);
  const said = execFileSync(distill, ['demo', '--quick'], {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  for (const system of ['BM25', 'student, labels alone', 'student, distilled', 'teacher'])
    expect(said).toMatch(new RegExp(`^${system} +0\\.\\d{4}`, 'm'));
  for (const left of [
    'data/corpus.jsonl',
    'teacher/onnx/model.onnx',
    'distill.yaml',
    'student/checkpoint/modules.json',
  ])
    expect(existsSync(join(folder, 'demo', left)), left).toBe(true);

  const program = `
    import { distill, evaluate, InputError } from 'onnx-distill';
    import { kl } from 'onnx-distill/losses';
    import { differentiate } from 'onnx-distill/engine';
    import { bm25 } from 'onnx-distill/evaluation';
    console.log([distill, evaluate, InputError, kl, differentiate, bm25].map((f) => typeof f).join(' '));`;
  const types = execFileSync('node', ['--input-type=module', '--eval', program], { cwd: folder, encoding: 'utf8' });
  expect(types.trim()).toBe(Array(6).fill('function').join(' '));
}, 600_000);
