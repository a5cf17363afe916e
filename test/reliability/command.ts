/** @file The command as a process of its own, to be stopped and killed: built once, run in a small world. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect } from 'vitest';

let built: string;

/** Compiles the command: before the first start. The files of one test run share it; the first that asks compiles. */
export function build(): void {
  built = join(tmpdir(), 'built');
  try {
    mkdirSync(built);
  } catch {
    const clock = new Int32Array(new SharedArrayBuffer(4));
    for (let waited = 0; !existsSync(join(built, 'package.json')); waited += 200) {
      if (waited > 120_000) throw new Error(`${built} is not compiled by the test that began to`);
      Atomics.wait(clock, 0, 0, 200);
    }
    return;
  }
  const options = ['-p', 'tsconfig.build.json', '--outDir', built, '--incremental', 'false', '--noCheck'];
  execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', ...options]);
  symlinkSync(resolve('node_modules'), join(built, 'node_modules'));
  // Last: whoever waits looks for it.
  writeFileSync(join(built, 'package.json'), '{"type":"module"}');
}

/** Where the compiled files are, after `build`. */
export const builtFolder = (): string => built;

export interface Running {
  child: ChildProcess;
  said(): string;
  ended: Promise<number | null>;
}

/** Where and how test/reliability/fault.mjs kills the process. */
export interface Fault {
  call: 'rename' | 'rm' | 'write' | 'crc32';
  path?: string;
  when?: 'before' | 'after' | 'half';
  nth?: number;
}

/** Starts `distill ...argv`. @param mostBytes that it may write a file to, where prlimit is */
export function start(argv: readonly string[], fault?: Fault, mostBytes?: number): Running {
  const node = [process.execPath, ...(fault ? ['--import', resolve('test/reliability/fault.mjs')] : [])];
  const env = { ...process.env, ...(fault && { FAULT: JSON.stringify(fault) }) };
  const limit = mostBytes === undefined ? [] : ['prlimit', `--fsize=${mostBytes}:`];
  const [program, ...options] = [...limit, ...node, join(built, 'cli', 'main.js'), ...argv];
  const child = spawn(program, options, { env });
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (d) => {
      text += d;
    });
  return { child, said: () => text, ended: new Promise((done) => child.on('close', (code) => done(code))) };
}

/** Until a run has said something. */
export async function heard(run: Running, what: RegExp): Promise<void> {
  for (let i = 0; i < 1200 && !what.test(run.said()) && run.child.exitCode === null; i++)
    await new Promise((done) => setTimeout(done, 25));
  expect(run.said()).toMatch(what);
}

/** sha256 of a model folder's graph. */
export const modelHash = (folder: string): string =>
  createHash('sha256')
    .update(readFileSync(join(folder, 'onnx', 'model.onnx')))
    .digest('hex');
