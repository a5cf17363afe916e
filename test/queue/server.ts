/** @file A Valkey or Redis server on the loopback address and a free port, for tests. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Server {
  url: string;
  stop(): Promise<void>;
}

const binary = ['valkey-server', 'redis-server'].find((name) => spawnSync(name, ['--version']).status === 0);
export const hasServer = binary !== undefined;
if (!hasServer) console.log('skipped without valkey-server or redis-server: a queue between processes');

/** @param port the same one again after a stop */
export async function startServer(port?: number): Promise<Server> {
  const at = port ?? (await freePort());
  const folder = mkdtempSync(join(tmpdir(), 'queue-server-'));
  const options = { port: at, bind: '127.0.0.1', save: '', appendonly: 'no', dir: folder };
  const argv = Object.entries(options).flatMap(([k, v]) => [`--${k}`, String(v)]);
  const child = spawn(binary as string, argv, { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise<void>((done) => child.once('exit', () => done()));
  await new Promise<void>((ready, fail) => {
    let said = '';
    child.stdout.on('data', (d) => {
      said += d;
      if (/ready to accept connections/i.test(said)) ready();
    });
    child.once('exit', () => fail(new Error(`${binary} ended: ${said}`)));
  });
  return {
    url: `redis://127.0.0.1:${at}`,
    async stop() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as { port: number };
  await new Promise((done) => server.close(done));
  return port;
}
