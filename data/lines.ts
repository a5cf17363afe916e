/** @file Lines of text files, plain or gzipped, one at a time and bounded. */
import { createReadStream, existsSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { InputError } from '../common/errors.ts';

/** A line longer than this is no line of a data set. */
const LONGEST_LINE = 64 * 1024 * 1024;
/** A file that unpacks to more than this is refused: it may have been made to fill the memory. */
const LARGEST_FILE = 64 * 1024 ** 3;
/** Text packs to a tenth; what packs to less than a hundredth was made to. Looked at once there is much of it. */
const GREATEST_RATIO = 100;
const RATIO_FROM = 256 * 1024 ** 2;
const TOO_LARGE = 'it unpacks to more than any data set holds';

export interface Line {
  text: string;
  /** From 1. */
  number: number;
}

/** The file itself or its gzipped twin, whichever is there. */
export function findFile(path: string): string | undefined {
  return [path, `${path}.gz`].find((p) => existsSync(p));
}

/** A file's bytes, unpacked where its name ends in .gz. Errors are plain: see `unreadable`. */
export async function* readBytes(file: string): AsyncGenerator<Buffer> {
  const source = createReadStream(file, { highWaterMark: 1 << 20 });
  let stream: Readable = source;
  let read = (): number => source.bytesRead;
  if (file.endsWith('.gz')) {
    const unpacked = createGunzip({ chunkSize: 1 << 18 });
    read = () => unpacked.bytesWritten;
    source.on('error', (e) => unpacked.destroy(e));
    stream = source.pipe(unpacked);
  }
  let size = 0;
  for await (const chunk of stream) {
    size += (chunk as Buffer).length;
    if (size > LARGEST_FILE || (size > RATIO_FROM && size > GREATEST_RATIO * read())) throw new Error(TOO_LARGE);
    yield chunk as Buffer;
  }
}

/** @throws InputError where the file cannot be read or unpacked */
export async function* readLines(file: string): AsyncGenerator<Line> {
  const decoder = new TextDecoder();
  // The parts of a line that has not ended: joined once, or a long line would be copied for each part.
  let rest: string[] = [];
  let held = 0;
  let number = 0;
  try {
    for await (const chunk of readBytes(file)) {
      if (held > LONGEST_LINE) throw new Error(TOO_LARGE);
      const lines = decoder.decode(chunk, { stream: true }).split('\n');
      const last = lines.pop() as string;
      if (lines.length) {
        lines[0] = rest.join('') + lines[0];
        [rest, held] = [[], 0];
      }
      rest.push(last);
      held += last.length;
      for (const text of lines) yield { text: text.endsWith('\r') ? text.slice(0, -1) : text, number: ++number };
    }
    const text = rest.join('') + decoder.decode();
    if (text) yield { text, number: ++number };
  } catch (cause) {
    throw unreadable(file, cause);
  }
}

/** What a failure to read becomes; a message made already passes through. */
export function unreadable(file: string, cause: unknown): InputError {
  if (cause instanceof InputError) return cause;
  return new InputError({
    code: 'data.unreadable',
    subject: `cannot read ${file} (${(cause as NodeJS.ErrnoException).code ?? (cause as Error).message})`,
    remedy: 'check that the file is there and whole',
    cause,
  });
}

/** The JSON object of a line. */
export function parseObject(line: Line, file: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line.text);
  } catch (cause) {
    throw new InputError({
      code: 'data.malformed-line',
      subject: `${file} line ${line.number} is not valid JSON (${(cause as Error).message})`,
      remedy: 'mend or remove the line',
      cause,
    });
  }
  if (!value || typeof value !== 'object' || Array.isArray(value))
    throw new InputError({
      code: 'data.malformed-line',
      subject: `${file} line ${line.number} is not a JSON object`,
      remedy: 'write one object a line, e.g. {"_id": "d1", "title": "", "text": "..."}',
    });
  return value as Record<string, unknown>;
}
