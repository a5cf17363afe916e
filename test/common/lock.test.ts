/** @file Locks: a living holder is respected; whatever else is in a lock file is taken over or named, never waited for. */
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { explainedSystem } from '../../common/errors.ts';
import { takeLock, waitForLock } from '../../common/lock.ts';

const place = (): string => join(mkdtempSync(join(tmpdir(), 'lock-')), 'a.lock');

test.each([
  ['empty', ''],
  ['null', 'null'],
  ['half of an object', '{'],
  ['a number', '7'],
  ['a list', '[]'],
  ['no process', '{}'],
  ['text for a number', JSON.stringify({ pid: 'x', host: hostname(), began: '' })],
  ['an infinite number', `{"pid":1e999,"host":"${hostname()}","began":""}`],
  ['a dead process', JSON.stringify({ pid: 2 ** 22 + 7, host: hostname(), began: '1' })],
  ['bytes', '\u0000\u0001\u0002'],
])('a lock file that holds %s is taken over at once', async (_, content) => {
  const file = place();
  writeFileSync(file, content);
  const unlock = await takeLock(file, 'the folder');
  expect(JSON.parse(readFileSync(file, 'utf8')).pid).toBe(process.pid);
  await expect(takeLock(file, 'the folder')).rejects.toMatchObject({ code: 'run.locked' });
  await unlock();
});

test('a process of another machine is respected', async () => {
  const file = place();
  writeFileSync(file, JSON.stringify({ pid: 1, host: 'elsewhere', began: '' }));
  await expect(takeLock(file, 'the folder')).rejects.toThrow(
    'the folder is in use by process 1 of elsewhere; wait for it',
  );
});

test('what another run makes is waited for, which is said once; of another machine it is refused; an abort ends it', async () => {
  const file = place();
  const unlock = await takeLock(file, 'the states');
  const notes: (string | undefined)[] = [];
  const waited = waitForLock(file, 'the states', { onProgress: ({ note }) => notes.push(note) });
  const stop = new AbortController();
  const aborted = waitForLock(file, 'the states', { signal: stop.signal });
  stop.abort(new Error('enough'));
  await expect(aborted).rejects.toThrow('enough');
  await unlock();
  await (await waited)();
  expect(notes).toEqual([`the states: process ${process.pid} makes what is needed, and is waited for`]);
  writeFileSync(file, JSON.stringify({ pid: 1, host: 'elsewhere', began: '' }));
  await expect(waitForLock(file, 'the states')).rejects.toMatchObject({ code: 'run.locked' });
});

test('a folder in the place of the lock file is one sentence', async () => {
  const file = place();
  mkdirSync(file);
  await expect(takeLock(file, 'the folder')).rejects.toThrow(/cannot take the lock of the folder.*\(EISDIR\)/);
});

test('a file system without hard links has locks too', async () => {
  vi.resetModules();
  vi.doMock('node:fs/promises', async (real) => ({
    ...(await real<typeof import('node:fs/promises')>()),
    link: async () => {
      throw Object.assign(new Error('EPERM: operation not permitted, link'), { code: 'EPERM', syscall: 'link' });
    },
  }));
  const { takeLock: take } = await import('../../common/lock.ts');
  const file = place();
  writeFileSync(file, 'null');
  const unlock = await take(file, 'the folder');
  await expect(take(file, 'the folder')).rejects.toMatchObject({ code: 'run.locked' });
  await unlock();
  vi.doUnmock('node:fs/promises');
  vi.resetModules();
});

test.each([
  ['EROFS', 'read-only file system'],
  ['EACCES', 'permission denied'],
  ['EBUSY', 'in use by another process'],
  ['EMFILE', 'too many open files'],
  ['ENOSPC', 'no space left on the disk'],
])('%s is one sentence with the path', (code, said) => {
  const error = Object.assign(new Error(`${code}: x`), { code, syscall: 'open', path: '/somewhere/a' });
  expect(explainedSystem(error)).toMatchObject({
    message: expect.stringContaining(`cannot open (/somewhere/a): ${said} (${code}); `),
    exitCode: 3,
    code: `system.${code}`,
  });
});
