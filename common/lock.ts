/** @file Lock files: each names the process that holds it; the lock of a dead process is taken over. */
import { readFileSync } from 'node:fs';
import { constants, copyFile, link, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { explainedSystem, FaultError, InputError } from './errors.ts';
import { isRunning } from './files.ts';
import { makeFolder } from './outputs.ts';
import type { RunControl } from './progress.ts';

interface Holder {
  pid: number;
  host: string;
  /** Start time of the process in the system's clock ticks: tells it from a later process with the same id. */
  began: string;
}

const held = new Set<string>();
/** Attempts to take over the lock of a dead process, since another process may be faster. */
const ATTEMPTS = 20;

/**
 * Takes a lock file, or takes over that of a process that no longer runs.
 * @param what is locked, for the message: `the output folder runs/a`
 * @returns a function that releases the lock
 * @throws InputError where a running process holds it, with its id and the path of the file
 */
export async function takeLock(file: string, what: string): Promise<() => Promise<void>> {
  const path = resolve(file);
  const own: Holder = { pid: process.pid, host: hostname(), began: beganAt(process.pid) };
  const temporary = `${path}.${process.pid}.part`;
  if (held.has(path)) throw busy(path, what, own);
  held.add(path);
  try {
    await makeFolder(dirname(path));
    await writeFile(temporary, JSON.stringify(own));
    for (let attempt = 1; !(await made(temporary, path)); attempt++) {
      const holder = await holderOf(path);
      if (holder && alive(holder)) throw busy(path, what, holder);
      if (attempt > ATTEMPTS) throw stuck(path, what);
      if (holder) await removeStale(path, holder, temporary);
    }
  } catch (error) {
    held.delete(path);
    throw explainedSystem(error, `take the lock of ${what}`);
  } finally {
    // The error that is told is the first one.
    await rm(temporary, { force: true }).catch(() => {});
  }
  return async () => {
    await rm(path, { force: true });
    held.delete(path);
  };
}

/**
 * As `takeLock`, and waits while a process of this machine holds the lock: for what several runs make once and all read.
 * @param watch is told once that it waits
 */
export async function waitForLock(file: string, what: string, watch: RunControl = {}): Promise<() => Promise<void>> {
  for (let told = false; ; ) {
    try {
      return await takeLock(file, what);
    } catch (error) {
      const locked = error instanceof InputError && error.code === 'run.locked';
      if (!locked || (await isElsewhere(file))) throw error;
      const note = `${what}: process ${(await livingHolder(file)) ?? '(ended)'} makes what is needed, and is waited for`;
      if (!told) watch.onProgress?.({ stage: 'wait', done: 0, unit: 's', note });
      told = true;
      await sleep(WAIT, undefined, { signal: watch.signal }).catch((error) => {
        throw watch.signal?.aborted ? watch.signal.reason : error;
      });
    }
  }
}
/** Milliseconds between looks at a lock. */
const WAIT = 500;

/** Whether a process of another machine holds a lock: whether it runs is not known here. */
const isElsewhere = async (file: string): Promise<boolean> =>
  ((await holderOf(resolve(file)))?.host ?? hostname()) !== hostname();

/** The process that holds a lock file, where it is alive. */
export async function livingHolder(file: string): Promise<number | undefined> {
  const holder = await holderOf(resolve(file));
  return holder && alive(holder) ? holder.pid : undefined;
}

/** Links a written file to its final path. @returns false where that path exists */
async function made(from: string, to: string): Promise<boolean> {
  try {
    // Of several processes only one can make the link, and the file is never seen half written.
    await link(from, to);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    if (!WITHOUT_LINKS.has(code ?? '')) throw error;
  }
  try {
    // A file system without hard links: exclusive creation, whose file may be seen empty for a moment.
    await copyFile(from, to, constants.COPYFILE_EXCL);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}
/** Error codes of file systems without hard links. */
const WITHOUT_LINKS = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK', 'EINVAL', 'EXDEV']);

/** The holder of a lock; an unreadable file counts as held by a dead process; undefined where the file is gone. */
async function holderOf(path: string): Promise<Holder | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const nobody: Holder = { pid: 0, host: hostname(), began: '' };
  try {
    const { pid, host, began } = (JSON.parse(text) ?? {}) as Partial<Holder>;
    return Number.isSafeInteger(pid) && typeof host === 'string'
      ? { pid: Number(pid), host, began: String(began) }
      : nobody;
  } catch {
    return nobody;
  }
}

/**
 * Another process may have taken the lock over meanwhile: the moved file is read, and put back unless it is the dead process's.
 */
async function removeStale(path: string, dead: Holder, temporary: string): Promise<void> {
  const aside = `${temporary}.stale`;
  const moved = await rename(path, aside).then(
    () => true,
    () => false,
  );
  if (!moved) return;
  const holder = await holderOf(aside);
  if (holder && (holder.pid !== dead.pid || holder.began !== dead.began)) await made(aside, path);
  await rm(aside, { force: true });
}

/** A process of another machine cannot be checked and counts as running. */
function alive({ pid, host, began }: Holder): boolean {
  if (host !== hostname()) return true;
  return pid > 0 && isRunning(pid) && beganAt(pid) === began;
}

/** Clock ticks since boot; empty where the system does not report them. */
function beganAt(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
  } catch {
    return '';
  }
}

const stuck = (path: string, what: string): FaultError =>
  new FaultError({
    code: 'run.lock-stuck',
    subject: `${what} cannot be locked: ${path} belongs to a process that no longer runs and cannot be replaced`,
    remedy: 'remove that file and run the same command again',
  });

function busy(path: string, what: string, { pid, host }: Holder): InputError {
  return new InputError({
    code: 'run.locked',
    subject: `${what} is in use by process ${pid}${host === hostname() ? '' : ` of ${host}`}`,
    remedy: `wait for it or choose another folder; if it is gone, remove ${path}`,
  });
}
