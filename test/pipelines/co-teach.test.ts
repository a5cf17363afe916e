import { existsSync, mkdtempSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Peer, trainTogether } from '../../pipelines/fit/parts/co-teaching.ts';

const outputs = mkdtempSync(join(tmpdir(), 'co-teach-'));
const losses = (who: number, step: number): Float64Array => Float64Array.of(who, step);
type Student = (who: 0 | 1, peer: Peer, signal: AbortSignal) => Promise<number>;

const together = (run: string, student: Student, signal?: AbortSignal, key = 'a'): Promise<number> =>
  trainTogether(join(outputs, run, 'training', 'peer'), { key }, signal, student);

describe('two students that are taught together', () => {
  test('each gets what the other had before the same step, one works at a time, and nothing is left behind', async () => {
    let working = 0;
    const order: string[] = [];
    const steps = await together('both', async (who, peer) => {
      for (let step = 0; step < 4; step++) {
        expect(++working).toBe(1);
        await new Promise((done) => setTimeout(done, 1));
        order.push(`${who}:${step}`);
        working--;
        expect(await peer.exchange(step, losses(who, step))).toEqual(losses(1 - who, step));
      }
      return 10 + who;
    });
    expect(steps).toBe(10);
    // The second, finding what it needs, goes on to where it has to wait.
    expect(order.slice(0, 6)).toEqual(['0:0', '1:0', '1:1', '0:1', '0:2', '1:2']);
    expect(existsSync(join(outputs, 'both', 'training', 'peer'))).toBe(false);
  });

  test('stopped where the two are at different steps, they go on; what another training left is not read', async () => {
    const stop = new AbortController();
    const stopped = together(
      'stopped',
      async (who, peer, signal) => {
        await peer.exchange(0, losses(who, 0));
        // The second is past the exchange that the first has not come to.
        if (who) return await peer.exchange(5, losses(1, 5)).then(() => 0);
        stop.abort(new Error('stopped by hand'));
        signal.throwIfAborted();
        return 0;
      },
      stop.signal,
    );
    await expect(stopped).rejects.toThrow('stopped by hand');
    const left = readdirSync(join(outputs, 'stopped', 'training', 'peer')).length;
    expect(left).toBeGreaterThan(0);

    const seen: number[] = [];
    const going = together('stopped', async (who, peer) => {
      // The second goes on behind step 0, so the first gets what belongs there from the folder alone.
      if (!who) seen.push((await peer.exchange(0, losses(0, 0)))[0]);
      seen.push((await peer.exchange(5, losses(who, 5)))[0]);
      return who;
    });
    expect(await going).toBe(0);
    expect(seen.slice().sort()).toEqual([0, 1, 1]);
    const other = together(
      'stopped',
      async (who, peer) => (who ? 1 : (await peer.exchange(0, losses(0, 0)))[0]),
      undefined,
      'another key',
    );
    await expect(other).rejects.toThrow('no other work waits for its turn');
  });

  test.each([0, 1])('where student %d fails, so does the training', async (failing) => {
    const trained = together(`failing-${failing}`, async (who, peer) => {
      await peer.exchange(0, losses(who, 0));
      if (who === failing) throw new Error('not finite');
      await peer.exchange(1, losses(who, 1));
      return who;
    });
    await expect(trained).rejects.toThrow('not finite');
  });
});
