/** @file A disk that is full: one sentence, code 3, and what stood there before is whole. A limit on file sizes stands for it. */
import { execFileSync } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { makeWorld, snapshot } from '../cli/world.ts';
import { build, start } from '../reliability/command.ts';

const limited = ((): boolean => {
  try {
    execFileSync('prlimit', ['--version']);
    return true;
  } catch {
    console.log('skipped where there is no prlimit: a full disk');
    return false;
  }
})();

describe.skipIf(!limited)('a full disk', () => {
  let world: string;
  /** `distill run` as a process that may write files of so many bytes; what it says, from its error on. */
  const run = async (mostBytes: number | undefined, ...sets: string[]) => {
    const all = [`output=${world}/out`, ...sets].flatMap((s) => ['--set', s]);
    const command = start(['run', join(world, 'distill.yaml'), ...all], undefined, mostBytes);
    const code = await command.ended;
    // A failed write inside LMDB may end the process later: none may be begun.
    expect(command.said()).not.toContain('Write error');
    return { code, message: command.said().slice(command.said().indexOf('error: ')) };
  };
  beforeAll(async () => {
    build();
    world = await makeWorld();
    const { code, message } = await run(undefined);
    if (code) throw new Error(message);
  });

  test('while weights are written: the earlier checkpoint stays, and the next run does it', async () => {
    const checkpoint = join(world, 'out', 'checkpoint');
    const before = snapshot(checkpoint);
    const limit = statSync(join(checkpoint, 'onnx', 'model.onnx')).size - 100;
    const { code, message } = await run(limit, 'seed=5');
    expect(message).toBe(
      `error: cannot write the checkpoint ${checkpoint} (EFBIG); free space or choose another folder and run the same command again\n`,
    );
    expect(code).toBe(3);
    expect(snapshot(checkpoint)).toEqual(before);
    expect(
      readdirSync(join(world, 'out'), { recursive: true, encoding: 'utf8' }).filter((n) => n.includes('.part')),
    ).toEqual([]);
    expect((await run(undefined, 'seed=5')).code).toBe(0);
    expect(snapshot(checkpoint)).not.toEqual(before);
  });

  test('while scores are kept: none of the earlier ones is lost', async () => {
    const cache = join(world, 'small-cache');
    await (await ScoreCache.open(cache)).close();
    const { code, message } = await run(statSync(join(cache, 'data.mdb')).size, `cache=${cache}`);
    expect(message).toMatch(
      /^error: cannot write the cache \S+\/small-cache \([^\n]+\); free space or choose another folder under 'cache' and run the same command again, the scores so far are kept\n$/,
    );
    expect(code).toBe(3);
    expect((await run(undefined, `cache=${cache}`)).code).toBe(0);
  });
});
