/** @file `distill serve` as a process: killed and started again the index is whole; ended by SIGTERM it answers what is under way. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { distill, makeWorld } from '../cli/world.ts';
import { build, heard, type Running, start } from '../reliability/command.ts';

let world: string;
const at = (name: string): string => join(world, name);

beforeAll(async () => {
  build();
  world = await makeWorld();
  expect((await distill('index', at('dual'), '--data', at('data'), '--output', at('index'))).code).toBe(0);
});
afterAll(() => {
  rmSync(world, { recursive: true, force: true });
});

async function served(): Promise<{ run: Running; url: string }> {
  const run = start(['serve', at('index'), '--port', '0']);
  await heard(run, /serving \d+ documents on \S+\n/);
  return { run, url: /on (\S+)\n/.exec(run.said())?.[1] as string };
}

const post = (url: string, path: string, body: unknown): Promise<Response> =>
  fetch(url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

test('killed while documents are added, three times: what was answered is there, and it starts again', async () => {
  const confirmed: string[] = [];
  for (let round = 0; round < 3; round++) {
    const { run, url } = await served();
    const adding = Array.from({ length: 4 }, async (_, lane) => {
      for (let i = 0; ; i++) {
        const id = `r${round}-${lane}-${i}`;
        const response = await post(url, '/documents', [{ id, text: `zebra ${id}` }]);
        expect(response.status).toBe(200);
        await response.json();
        confirmed.push(id);
        if (confirmed.length % 12 === 11) run.child.kill('SIGKILL');
      }
    });
    const ends = await Promise.allSettled(adding);
    // The connection ends with the process.
    for (const end of ends) expect(end.status === 'rejected' && String(end.reason)).toMatch(/fetch failed|terminated/);
    await run.ended;
  }
  expect(confirmed.length).toBeGreaterThan(30);
  const { run, url } = await served();
  const health = (await (await fetch(`${url}/healthz`)).json()) as { documents: number };
  expect(health.documents).toBeGreaterThanOrEqual(40 + confirmed.length);
  const found = await post(url, '/search', { query: 'zebra', k: 1000 });
  const { documents } = (await found.json()) as { documents: { id: string }[] };
  const ids = new Set(documents.map((d) => d.id));
  expect(confirmed.filter((id) => !ids.has(id))).toEqual([]);
  run.child.kill('SIGTERM');
  expect(await run.ended).toBe(0);
  expect(run.said()).toContain('ended: every request was answered, the index is closed');
});

test('SIGTERM while requests are under way: they are answered', async () => {
  const { run, url } = await served();
  const asked = Array.from({ length: 8 }, () => post(url, '/embed', { inputs: Array(100).fill('open file list') }));
  await new Promise((go) => setTimeout(go, 20));
  run.child.kill('SIGTERM');
  for (const answer of await Promise.all(asked)) expect(await answer.json()).toHaveLength(100);
  expect(await run.ended).toBe(0);
});
