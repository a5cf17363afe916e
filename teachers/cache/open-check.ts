/**
 * @file Checks whether a store can be opened: LMDB trusts its offsets, and reading a damaged file can crash the process. So
 * another process reads it first, once per state of the file.
 */
import { spawn } from 'node:child_process';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const DATA = 'data.mdb';
const CHECKED = 'checked';

/** Changes with every write. */
function stateOf(folder: string): string | undefined {
  const found = statSync(join(folder, DATA), { throwIfNoEntry: false });
  return found && `${found.ino} ${found.size} ${found.mtimeMs}`;
}

/**
 * What ends a process that reads a folder's store and begins to write to it; undefined if it does not crash.
 */
export async function endsProcess(folder: string): Promise<string | undefined> {
  const state = stateOf(folder);
  if (state === undefined || checkedState(folder) === state) return undefined;
  const ended = await readElsewhere(folder);
  return ended.signal ? `reading it ends the process by ${ended.signal}` : undefined;
}

/** Says that the file as it is now was written by a process that could read it. A folder that cannot be written is read again. */
export function markReadable(folder: string): void {
  const state = stateOf(folder);
  try {
    if (state && checkedState(folder) !== state) writeFileSync(join(folder, CHECKED), state);
  } catch {}
}

function checkedState(folder: string): string | undefined {
  try {
    return readFileSync(join(folder, CHECKED), 'utf8');
  } catch {
    return undefined;
  }
}

/** Reads a store through in another process. @returns what ended that process, undefined where nothing did */
export async function endsReading(folder: string): Promise<string | undefined> {
  const { signal, status, said } = await readElsewhere(folder);
  if (signal) return `reading it ends the process by ${signal}`;
  return status
    ? `reading it ends the process (${said.split('\n').find((l) => /error/i.test(l)) ?? status})`
    : undefined;
}

const PROGRAM = `
  const { open, ABORT } = (await import(process.argv[2])).default;
  const root = open({ path: process.argv[1], noSubdir: false, maxDbs: 8, compression: false });
  const binary = { keyEncoding: 'binary', encoding: 'binary' };
  for (const name of ['records', 'sources', 'meta'])
    try {
      for (const {} of root.openDB({ name, create: false, ...(name !== 'records' ? {} : binary) })?.getRange() ?? []);
    } catch {}
  // Pages that are free are only looked at by a write; this one is taken back.
  try {
    const meta = root.openDB({ name: 'meta', create: false });
    if (meta) root.transactionSync(() => { meta.putSync('probe', 1); return ABORT; });
  } catch {}
  process.exit(0);`;

function readElsewhere(folder: string): Promise<{ signal: string | null; status: number | null; said: string }> {
  const lmdb = pathToFileURL(createRequire(import.meta.url).resolve('lmdb')).href;
  const child = spawn(process.execPath, ['--input-type=module', '-e', PROGRAM, folder, lmdb], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (d) => {
    said += d;
  });
  return new Promise((done, fail) => {
    child.once('error', fail);
    child.once('close', (status, signal) => done({ status, signal, said }));
  });
}
