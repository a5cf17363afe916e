/** @file Text files, plain or gzipped, as checked UTF-8: whole lines, one block or one line at a time, bounded. */
import { isUtf8 } from 'node:buffer';
import { createReadStream, existsSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { InputError } from '../../common/errors.ts';

/** Longest line that is read. */
const LONGEST_LINE = 64 * 1024 * 1024;
/** A file that unpacks to more than this is refused: it may have been made to fill the memory. */
const LARGEST_FILE = 64 * 1024 ** 3;
/** Text compresses to about a tenth; less than a hundredth indicates a decompression bomb. Checked from a certain size on. */
const GREATEST_RATIO = 100;
const RATIO_FROM = 256 * 1024 ** 2;
const TOO_LARGE = 'it unpacks to more than any data set holds';
const NEWLINE = 10;

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
async function* readBytes(file: string): AsyncGenerator<Buffer> {
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

/** UTF-8 without its byte order mark; UTF-16 with a byte order mark becomes UTF-8. */
async function* asUtf8(file: string): AsyncGenerator<Buffer> {
  let decoder: { decode(chunk?: Buffer, options?: { stream: boolean }): string } | undefined;
  let first = true;
  for await (let chunk of readBytes(file)) {
    if (first) {
      const mark = chunk.subarray(0, 3).toString('hex');
      if (mark === 'efbbbf') chunk = chunk.subarray(3);
      else if (/^(fffe|feff)/.test(mark))
        decoder = new TextDecoder(mark.startsWith('fffe') ? 'utf-16le' : 'utf-16be', { fatal: true });
      first = false;
    }
    yield decoder ? Buffer.from(decoder.decode(chunk, { stream: true })) : chunk;
  }
  if (decoder) yield Buffer.from(decoder.decode());
}

/**
 * A text file as blocks of whole lines in UTF-8.
 * @throws InputError that names the line where bytes are not UTF-8
 */
export async function* readText(file: string): AsyncGenerator<Buffer> {
  // The parts of a line that has not ended: joined once, or a long line would be copied for each part.
  let rest: Buffer[] = [];
  let held = 0;
  let before = 0;
  const checked = (parts: Buffer[]): Buffer => {
    const block = parts.length === 1 ? parts[0] : Buffer.concat(parts);
    if (!isUtf8(block) || isWide(block)) throw badBytes(file, block, before);
    for (let at = block.indexOf(NEWLINE); at >= 0; at = block.indexOf(NEWLINE, at + 1)) before++;
    return block;
  };
  for await (const chunk of asUtf8(file)) {
    const end = chunk.lastIndexOf(NEWLINE) + 1;
    if (end) {
      const block = checked([...rest, chunk.subarray(0, end)]);
      [rest, held] = [[], 0];
      yield block;
    }
    if (end === chunk.length) continue;
    rest.push(chunk.subarray(end));
    held += chunk.length - end;
    if (held > LONGEST_LINE) throw new Error(TOO_LARGE);
  }
  if (held) {
    const block = checked(rest);
    rest = [];
    yield block;
  }
}

/** A whole text file, with its line ends as newlines. @throws InputError as readLines */
export async function readWhole(file: string): Promise<string> {
  const blocks: string[] = [];
  try {
    for await (const block of readText(file)) blocks.push(block.toString('utf8'));
  } catch (cause) {
    throw unreadable(file, cause);
  }
  return blocks.join('').replaceAll('\r\n', '\n');
}

/** Every other byte of UTF-16 text is zero; a text may hold one. */
function isWide(bytes: Buffer): boolean {
  const sample = bytes.subarray(0, 1024);
  let zeros = 0;
  for (const byte of sample) zeros += Number(byte === 0);
  return 4 * zeros > sample.length;
}

/** @param before lines that came before the block */
function badBytes(file: string, block: Buffer, before: number): InputError {
  let [from, number] = [0, before];
  for (;;) {
    number++;
    const end = block.indexOf(NEWLINE, from);
    const line = block.subarray(from, end < 0 ? block.length : end);
    if (isWide(line))
      return new InputError({
        code: 'data.encoding',
        subject: `${file} line ${number} holds zero bytes`,
        expected: 'text in UTF-8',
        remedy: 'if it is UTF-16 without a byte order mark or another encoding, save it as UTF-8',
      });
    if (!isUtf8(line) || end < 0)
      return new InputError({
        code: 'data.encoding',
        subject: `${file} line ${number} is not UTF-8`,
        received: JSON.stringify(line.toString('latin1').trim().slice(0, 60)),
        remedy: 'the file is probably in Latin-1 or Windows-1252, or was cut within a character; save it as UTF-8',
      });
    from = end + 1;
  }
}

/** @throws InputError where the file cannot be read or unpacked, or is not UTF-8 */
export async function* readLines(file: string): AsyncGenerator<Line> {
  let number = 0;
  try {
    for await (const block of readText(file)) {
      const lines = block.toString('utf8').split('\n');
      // A block ends with a newline, except perhaps the last one.
      if (lines.at(-1) === '') lines.pop();
      for (const text of lines) yield { text: text.endsWith('\r') ? text.slice(0, -1) : text, number: ++number };
    }
  } catch (cause) {
    throw unreadable(file, cause);
  }
}

/** Turns a failure to read into an InputError; an InputError passes through. */
export function unreadable(file: string, cause: unknown): InputError {
  if (cause instanceof InputError) return cause;
  const { code, message } = cause as NodeJS.ErrnoException;
  const reason = code === 'ERR_ENCODING_INVALID_ENCODED_DATA' ? 'it is not valid UTF-16' : (code ?? message);
  return new InputError({
    code: 'data.unreadable',
    subject: `cannot read ${file} (${reason})`,
    remedy: 'check that the file is there and whole',
    cause,
  });
}
