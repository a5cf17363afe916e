/** @file JSON files of model folders. */
import { readFile } from 'node:fs/promises';
import { InputError } from '../../common/errors.ts';

/**
 * A file's JSON object; an empty one where there is no file.
 * @throws InputError where the file is not valid JSON, or holds something other than an object
 */
export async function readJson(file: string): Promise<Record<string, unknown>> {
  const value = await readJsonValue(file);
  if (value === undefined) return {};
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  const found = value === null ? 'null' : Array.isArray(value) ? 'a list' : `a ${typeof value}`;
  throw new InputError({
    code: 'model.malformed-json',
    subject: `${file} holds ${found}`,
    expected: 'a JSON object',
    remedy: 'copy it again from the model',
  });
}

/** A file's JSON, whatever it holds; undefined where there is no file. @throws InputError where it is not valid JSON */
export async function readJsonValue(file: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InputError({
      code: 'model.malformed-json',
      subject: `${file} is not valid JSON (${(cause as Error).message})`,
      remedy: 'fix it or copy it again from the model',
      cause,
    });
  }
}
