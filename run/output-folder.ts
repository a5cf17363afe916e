/** @file The output folder: claimed before any work, so that nobody's files are written over. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../common/errors.ts';
import { removeLeftovers, writeWhole } from '../common/files.ts';
import { takeLock } from '../common/lock.ts';
import { finishReplacing } from '../common/replace.ts';
import type { Config } from '../config/config.ts';
import { MARK } from '../config/paths.ts';

const LOCK = 'run.lock';

/**
 * Takes the folder for this process alone and finishes what a killed one left in it.
 * @returns gives it back
 * @throws InputError where it holds something else than a run or another process works in it; FaultError where it cannot be
 * written
 */
export async function claimOutput({ output }: Config, version: string): Promise<() => Promise<void>> {
  refuseOther(output);
  const unlock = await takeLock(join(output, LOCK), `the output folder ${output}`);
  try {
    await removeLeftovers(output);
    await finishReplacing(join(output, 'checkpoint'));
    if (!existsSync(join(output, MARK))) await writeWhole(join(output, MARK), `${JSON.stringify({ version })}\n`);
    return unlock;
  } catch (error) {
    await unlock();
    throw error;
  }
}

/** @throws InputError where a folder holds something else than a run */
export function refuseOther(output: string): void {
  const refuse = (subject: string): never => {
    throw new InputError({
      code: 'output.occupied',
      subject,
      expected: 'an empty folder, a new one, or that of an earlier run',
      remedy: "choose another folder under 'output'",
    });
  };
  if (!existsSync(output)) return;
  if (!statSync(output).isDirectory()) refuse(`'output': ${output} is a file`);
  // A run that was killed at its very beginning has left no more than its lock, or half of its mark.
  const entries = readdirSync(output).filter((name) => !name.startsWith(LOCK) && !name.startsWith(`${MARK}.`));
  if (entries.length && !entries.includes(MARK) && !existsSync(join(output, 'checkpoint', 'distill.json')))
    refuse(`'output': ${output} holds something else (${entries[0]})`);
  const checkpoint = join(output, 'checkpoint');
  if (existsSync(checkpoint) && readdirSync(checkpoint).length && !existsSync(join(checkpoint, 'distill.json')))
    refuse(`'output': ${checkpoint} holds something else than a checkpoint of onnx-distill`);
}
