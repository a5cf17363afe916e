/** @file Checks of a job's options, and the record of them in a folder that it made of a cross-encoder. */
import { join } from 'node:path';
import { InputError } from '../common/errors.ts';
import { writeWhole } from '../common/files.ts';
import { VERSION } from '../common/version.ts';
import { absolute } from '../config/paths.ts';

/** Refuses an option of a job. */
export type Fail = (subject: string, expected: string) => never;

export const failing =
  (code: string): Fail =>
  (subject, expected) => {
    throw new InputError({ code, subject, expected, remedy: 'give one that is' });
  };

/** @throws InputError where a number that is given is not a whole one above 0 */
export function checkCounts(counts: Readonly<Record<string, number | undefined>>, fail: Fail): void {
  for (const [option, value] of Object.entries(counts))
    if (value !== undefined && !(Number.isInteger(value) && value > 0))
      fail(`${option} ${value}`, 'a whole number above 0');
}

/** @throws InputError where a number that is given is not between 0 and 1 */
export function checkShares(shares: Readonly<Record<string, number | undefined>>, fail: Fail): void {
  for (const [option, value] of Object.entries(shares))
    if (value !== undefined && !(value > 0 && value < 1)) fail(`${option} ${value}`, 'a number above 0 and below 1');
}

/** Writes distill.json: the command that made a folder and its options. */
export function writeMade(folder: string, made: string, options: { teacher: string; data: string }): Promise<void> {
  const { teacher, data } = options;
  const record = { ...options, output: undefined, teacher: absolute(teacher), data: absolute(data) };
  return writeWhole(
    join(folder, 'distill.json'),
    `${JSON.stringify({ version: VERSION, made, options: record }, null, 1)}\n`,
  );
}
