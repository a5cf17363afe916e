/** @file Models named by their names on a hub: every verb fetches them, and a hub that says nothing ends with a stop. */
import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { main } from '../../cli/program.ts';
import { Stopped } from '../../cli/terminal/stopped.ts';
import { endRequestsWith } from '../../common/http.ts';
import { shared } from '../shared.ts';
import { distill } from './world.ts';

const cases = join(shared ?? '', 'cases');
const before = { ...process.env };
const folders: string[] = [];
const servers: ChildProcess[] = [];
const temporary = (): string => {
  folders.push(mkdtempSync(join(tmpdir(), 'hub-cases-')));
  return folders.at(-1) as string;
};
const freePort = (): Promise<number> =>
  new Promise((found) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => found(port));
    });
  });
async function hub(program: string, ...argv: string[]): Promise<void> {
  const child = spawn(process.execPath, [program, ...argv], { stdio: ['ignore', 'pipe', 'inherit'] });
  servers.push(child);
  await new Promise((up) => child.stdout.once('data', up));
}

afterEach(() => {
  process.env = { ...before };
});
afterAll(() => {
  for (const s of servers) s.kill();
  for (const f of folders) rmSync(f, { recursive: true });
});

describe.skipIf(!shared)('hub-names-in-config', () => {
  let folder: string;
  beforeAll(async () => {
    folder = temporary();
    cpSync(join(cases, 'hub-names-in-config'), folder, { recursive: true });
    cpSync(join(cases, '_student'), join(folder, 'student'), { recursive: true });
  });

  test('run, train-teacher and check fetch a model by its name', async () => {
    const port = await freePort();
    await hub(join(folder, 'fakehub.mjs'), join(folder, 'model'), String(port));
    Object.assign(process.env, {
      HF_ENDPOINT: `http://127.0.0.1:${port}`,
      HF_HOME: join(folder, 'home'),
      HF_TOKEN: 'eyJhbGciOi.abc',
    });
    expect(await distill('check', 'org/tiny')).toMatchObject({ code: 0 });
    const config = join(folder, 'c.yaml');
    writeFileSync(config, readFileSync(config, 'utf8').replace('queries: 4', 'batchSize: 4'));
    const run = await distill(
      'run',
      config,
      '--output',
      join(folder, 'out'),
      '--set',
      `cache=${join(folder, 'cache')}`,
    );
    expect(run.err).not.toContain('no model folder');
    expect(run.code).toBe(0);
    const teacher = await distill(
      ...['train-teacher', '--data', join(folder, 'data'), '--model', 'org/tiny', '--set', 'train.steps=2'],
      ...['--output', join(folder, 'out-teacher')],
    );
    expect(teacher.err).not.toContain('no tokenizer.json');
    expect(teacher.code).toBe(0);
  }, 120_000);
});

describe.skipIf(!shared)('hub-that-never-answers', () => {
  test('a stop ends a command that waits for it', async () => {
    const silent = createServer(() => {});
    await new Promise<void>((up) => silent.listen(0, '127.0.0.1', up));
    const { port } = silent.address() as { port: number };
    Object.assign(process.env, { HF_ENDPOINT: `http://127.0.0.1:${port}`, HF_HOME: temporary() });
    const stop = new AbortController();
    const into = { write: () => {} };
    // As cli/main.ts does on SIGTERM. The hub is given up after 30 seconds, beyond this test's limit.
    endRequestsWith(stop.signal);
    setTimeout(() => stop.abort(new Stopped('SIGTERM')), 300);
    expect(await main(['check', 'org/tiny'], { out: into, err: into }, stop.signal)).toBe(143);
    endRequestsWith(new AbortController().signal);
    silent.close();
  }, 20_000);
});
