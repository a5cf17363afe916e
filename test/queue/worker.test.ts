/** @file A worker leaves what it cannot compute to others, and goes on. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openQueue } from '../../teachers/queue/index.ts';
import { jobOf } from '../../teachers/queue/queue.ts';
import { runWorker } from '../../teachers/queue/worker.ts';
import { hasServer, type Server, startServer } from './server.ts';

describe.runIf(hasServer)('a worker', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(() => server.stop());

  test('on a CPU leaves a teacher in fp16 to others and takes none of its jobs', async () => {
    const asking = await openQueue(server.url);
    const teacher = { key: 'a key', kind: 'cross-encoder', model: 'models/cross', dtype: 'fp16' } as const;
    const asked = asking.ask(jobOf(teacher, [{ query: 'q', document: 'd' }]));
    asked.catch(() => {});
    const ended = new AbortController();
    const notes: string[] = [];
    const worker = runWorker(
      server.url,
      { provider: 'cpu' },
      { signal: ended.signal, onProgress: ({ note }) => void (note && notes.push(note)) },
    );
    await expect
      .poll(() => notes.join('\n'), { timeout: 30_000 })
      .toContain("left to other workers: 'dtype: fp16' is for cuda, and models/cross computes on cpu here");
    ended.abort();
    expect(await worker).toEqual({ jobs: 0, pairs: 0, texts: 0 });
    await asking.close();
  });
});
