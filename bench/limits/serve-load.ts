/**
 * @file `distill serve` under load for minutes: searches by autocannon, documents added meanwhile, a kill at the end.
 *
 *     node dist/bench/limits/serve-load.js --checkpoint DIR --data DIR [--seconds 600] [--documents 2000] [--connections 4] [--output FILE]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import autocannon from 'autocannon';
import { openDataset } from '../../data/open.ts';
import { createIndex, openIndex } from '../../serving/index.ts';

const { values } = parseArgs({
  options: {
    checkpoint: { type: 'string' },
    data: { type: 'string' },
    seconds: { type: 'string', default: '600' },
    documents: { type: 'string', default: '2000' },
    connections: { type: 'string', default: '4' },
    output: { type: 'string' },
  },
});
/** Milliseconds between two additions, documents of one, and ids that are used in turn: later ones replace earlier ones. */
const EVERY = 500;
const AT_ONCE = 4;
const IDS = 2048;
/** Milliseconds between two looks at the server's memory. */
const LOOK_EVERY = 5000;

const { checkpoint, data } = values;
if (!checkpoint || !data) throw new Error('name --checkpoint and --data');
const seconds = Number(values.seconds);
const folder = mkdtempSync(join(tmpdir(), 'serve-load-'));
const at = join(folder, 'index');

const dataset = await openDataset(resolve(data));
const held = Math.min(Number(values.documents), dataset.documents.length);
const documentOf = (i: number) => ({ id: dataset.documents.ids[i], text: dataset.documents.text(i) });
const made = await createIndex(at, { encoder: resolve(checkpoint) });
await made.add(Array.from({ length: held }, (_, i) => documentOf(i)));
const hybrid = made.hybrid;
await made.close();

const main = resolve(dirname(fileURLToPath(import.meta.url)), '..', '..', 'cli', 'main.js');
let server = await start();
const queries = Array.from({ length: Math.min(512, dataset.queries.length) }, (_, i) => dataset.queries.text(i));
const headers = { 'content-type': 'application/json' };

const confirmed = new Set<string>();
const additions = { requests: 0, failed: [] as number[], milliseconds: [] as number[] };
/** Documents whose addition was not confirmed: they may be there or not. */
const open = new Set<string>();
const memory: number[] = [];
const until = performance.now() + seconds * 1000;
const load = autocannon({
  url: `${server.url}/search`,
  connections: Number(values.connections),
  duration: seconds,
  timeout: 60,
  requests: queries.map((query) => ({ method: 'POST', headers, body: JSON.stringify({ query, k: 10 }) })),
});
const adding = (async () => {
  for (let n = 0; performance.now() < until; n += AT_ONCE) {
    const documents = Array.from({ length: AT_ONCE }, (_, j) => ({
      ...documentOf((held + n + j) % dataset.documents.length),
      id: `new-${(n + j) % IDS}`,
    }));
    const before = performance.now();
    const response = await fetch(`${server.url}/documents`, {
      method: 'POST',
      headers,
      body: JSON.stringify(documents),
    });
    await response.text();
    additions.requests++;
    additions.milliseconds.push(performance.now() - before);
    if (response.status === 200) for (const { id } of documents) confirmed.add(id);
    else {
      additions.failed.push(response.status);
      for (const { id } of documents) open.add(id);
    }
    await sleep(EVERY);
  }
})();
const looking = (async () => {
  while (performance.now() < until) {
    const text = await (await fetch(`${server.url}/metrics`)).text();
    memory.push(Number(/^process_resident_memory_bytes (\S+)$/m.exec(text)?.[1]) / 1e6);
    await sleep(LOOK_EVERY);
  }
})();
const [result] = await Promise.all([load, adding, looking]);

server.child.kill('SIGKILL');
await server.ended;
const index = await openIndex(at);
let lost = 0;
for (const id of confirmed) if (!(await index.has(id))) lost++;
for (let i = 0; i < held; i++) if ((await index.get(documentOf(i).id))?.text !== documentOf(i).text) lost++;
const whole = { documents: index.size, expected: held + confirmed.size, lost };
await index.close();
server = await start();
const health = (await (await fetch(`${server.url}/healthz`)).json()) as { documents: number };
server.child.kill('SIGTERM');
await server.ended;
rmSync(folder, { recursive: true });

const part = (from: number, to: number): number => {
  const some = memory.slice(Math.floor(from * memory.length), Math.max(1, Math.ceil(to * memory.length)));
  return Math.round(some.reduce((s, v) => s + v, 0) / some.length);
};
const times = additions.milliseconds.toSorted((a, b) => a - b);
const quantile = (q: number): number => Math.round(times[Math.min(times.length - 1, Math.floor(q * times.length))]);
const report = {
  seconds,
  hybrid,
  documents: held,
  connections: Number(values.connections),
  searches: {
    answered: result['2xx'],
    other: result.non2xx,
    errors: result.errors,
    timeouts: result.timeouts,
    perSecond: Math.round(result.requests.average),
    ms: { p50: result.latency.p50, p99: result.latency.p99, most: result.latency.max },
  },
  additions: {
    requests: additions.requests,
    failed: additions.failed,
    ms: { p50: quantile(0.5), p99: quantile(0.99) },
  },
  // The first tenth is left out: caches fill.
  residentMB: {
    start: part(0.1, 0.2),
    middle: part(0.45, 0.55),
    end: part(0.9, 1),
    most: Math.round(Math.max(...memory)),
  },
  killed: { ...whole, startedAgain: health.documents },
};
console.log(JSON.stringify(report, null, 1));
if (values.output) {
  mkdirSync(dirname(resolve(values.output)), { recursive: true });
  writeFileSync(values.output, JSON.stringify({ ...report, memory }, null, 1));
}
const unsure = [...open].filter((id) => !confirmed.has(id)).length;
const extra = whole.documents - whole.expected;
if (result.errors || result.non2xx || additions.failed.length || lost || extra < 0 || extra > unsure)
  process.exitCode = 1;

async function start(): Promise<{ child: ChildProcess; url: string; ended: Promise<unknown> }> {
  const child = spawn(process.execPath, [main, 'serve', at, '--port', '0'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = new Promise((done) => child.on('close', done));
  let said = '';
  const url = await new Promise<string>((go, fail) => {
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      said += chunk;
      const found = /on (http\S+)\n/.exec(said)?.[1];
      if (found) go(found);
    });
    child.on('close', () => fail(new Error(`the server ended: ${said}`)));
  });
  return { child, url, ended };
}
