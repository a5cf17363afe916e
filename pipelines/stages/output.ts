/** @file The output folder: claimed before any work, so that nobody's files are written over. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { writeWhole } from '../../common/files.ts';
import type { Config } from '../config.ts';

/** Written first: it says that the folder is a run's. */
export const MARK = 'onnx-distill.json';

/** @throws InputError where the folder holds something else than a run; FaultError where it cannot be written */
export async function claimOutput(config: Config, version: string): Promise<void> {
  const { output } = config;
  const refuse = (subject: string): never => {
    throw new InputError({
      code: 'output.occupied',
      subject,
      expected: 'an empty folder, a new one, or that of an earlier run',
      remedy: "choose another folder under 'output'",
    });
  };
  if (existsSync(output)) {
    if (!statSync(output).isDirectory()) refuse(`'output': ${output} is a file`);
    const entries = readdirSync(output);
    if (entries.length && !entries.includes(MARK) && !existsSync(join(output, 'checkpoint', 'distill.json')))
      refuse(`'output': ${output} holds something else (${entries[0]})`);
  }
  const checkpoint = join(output, 'checkpoint');
  if (existsSync(checkpoint) && readdirSync(checkpoint).length && !existsSync(join(checkpoint, 'distill.json')))
    refuse(`'output': ${checkpoint} holds something else than a checkpoint of onnx-distill`);
  if (!existsSync(join(output, MARK))) await writeWhole(join(output, MARK), `${JSON.stringify({ version })}\n`);
}
