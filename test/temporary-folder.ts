/** @file One temporary folder for a whole test run, removed at its end: tests and the commands that they start leave nothing. */
import { mkdtempSync, realpathSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What os.tmpdir() and other programs read: POSIX, then Windows. */
const VARIABLES = ['TMPDIR', 'TEMP', 'TMP'] as const;
/** Set for the run, so that the setup of a second project makes no second folder. */
const OWN = 'ONNX_DISTILL_TEST_FOLDER';

/** Runs once before all tests (vitest's globalSetup); forks and the processes that they start inherit the variables. */
export default function setup(): (() => Promise<void>) | undefined {
  if (process.env[OWN]) return undefined;
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'onnx-distill-test-'));
  const before = VARIABLES.map((name) => [name, process.env[name]] as const);
  for (const name of VARIABLES) process.env[name] = folder;
  process.env[OWN] = folder;
  return async () => {
    for (const [name, value] of before)
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    delete process.env[OWN];
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  };
}
