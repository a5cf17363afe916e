/** @file JSON objects of data files. Whole numbers that a double cannot hold, such as long ids, are kept as their digits. */
import { isSafeNumber, parse } from 'lossless-json';
import { InputError } from '../../common/errors.ts';
import { type Line, readLines, readText, unreadable } from './lines.ts';
import type { Row } from './row.ts';

/** A number of as many digits may be beyond 2^53. */
const LONG_NUMBER = /\d{16}/;
/** A file that is one JSON value is parsed as a whole: larger ones are refused. */
const LARGEST_WHOLE = 256 * 1024 ** 2;

const exact = (digits: string): number | string =>
  isSafeNumber(digits) || !/^-?\d+$/.test(digits) ? Number(digits) : digits;

/** Of a text without long numbers as JSON.parse gives it. @throws SyntaxError */
const parseJson = (text: string): unknown =>
  LONG_NUMBER.test(text) ? parse(text, undefined, exact) : (JSON.parse(text) as unknown);

/** The JSON object of a line. @throws InputError that names the line */
export function parseObject(line: Line, file: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = parseJson(line.text);
  } catch (cause) {
    throw new InputError({
      code: 'data.malformed-line',
      subject: `${file} line ${line.number} is not valid JSON (${(cause as Error).message})`,
      remedy: 'fix or remove the line',
      cause,
    });
  }
  if (!isObject(value))
    throw new InputError({
      code: 'data.malformed-line',
      subject: `${file} line ${line.number} is not a JSON object`,
      remedy: 'write one object a line, e.g. {"_id": "d1", "title": "", "text": "..."}',
    });
  return value;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

/** One object a line. */
export async function* readJsonLines(file: string): AsyncGenerator<Row> {
  for await (const line of readLines(file)) {
    if (!line.text.trim()) continue;
    const values = parseObject(line, file);
    line.text = '';
    yield { values, where: `${file} line ${line.number}` };
  }
}

/** A `.json` file: an array of objects, an object with one such array, or one object a line. */
export async function* readJson(file: string): AsyncGenerator<Row> {
  if (await isLines(file)) return yield* readJsonLines(file);
  const value = await readWhole(file);
  const arrays = isObject(value) ? Object.values(value).filter((v) => Array.isArray(v) && v.every(isObject)) : [];
  const rows = Array.isArray(value) ? value : arrays.length === 1 ? (arrays[0] as unknown[]) : undefined;
  if (!rows?.every(isObject))
    throw new InputError({
      code: 'data.malformed-file',
      subject: `${file} is not an array of JSON objects`,
      expected: '[{"query": "...", "positive": "..."}, ...], or one object a line',
      remedy: 'write the rows so',
    });
  for (const [i, values] of (rows as Record<string, unknown>[]).entries())
    yield { values, where: `${file} row ${i + 1}` };
}

/** Whether the first line is an object by itself. */
async function isLines(file: string): Promise<boolean> {
  for await (const { text } of readLines(file)) {
    if (!text.trim()) continue;
    try {
      return isObject(JSON.parse(text));
    } catch {
      return false;
    }
  }
  return true;
}

async function readWhole(file: string): Promise<unknown> {
  const parts: Buffer[] = [];
  let size = 0;
  try {
    for await (const block of readText(file)) {
      size += block.length;
      if (size > LARGEST_WHOLE)
        throw new InputError({
          code: 'data.too-large',
          subject: `${file} is one JSON value of more than ${LARGEST_WHOLE / 1024 ** 2} MiB`,
          remedy: 'write one object a line (.jsonl)',
        });
      parts.push(block);
    }
    return parseJson(Buffer.concat(parts).toString('utf8'));
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw unreadable(file, cause);
    throw new InputError({
      code: 'data.malformed-file',
      subject: `${file} is not valid JSON (${cause.message})`,
      remedy: 'fix the file, or write one object a line (.jsonl)',
      cause,
    });
  }
}
