/** @file JSON files of model folders. */
import { readFile } from 'node:fs/promises';
import { InputError } from '../../common/errors.ts';

/**
 * A file's JSON; an empty object where there is no file.
 * @throws InputError where the file is not valid JSON
 */
export async function readJson(file: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch {
    return {};
  }
  try {
    const value: unknown = JSON.parse(text);
    // A file with `null` counts as absent.
    return (value ?? {}) as Record<string, unknown>;
  } catch (cause) {
    throw new InputError({
      code: 'model.malformed-json',
      subject: `${file} is not valid JSON (${(cause as Error).message})`,
      remedy: 'fix it or copy it again from the model',
      cause,
    });
  }
}
