/** @file Text files, plain or gzipped, as checked UTF-8: whole lines, one block or one line at a time, bounded. */
import { isUtf8 } from 'node:buffer';
import { createReadStream, existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { InputError } from '../../common/errors.ts';

/** Bytes read at a time. */
const CHUNK = 1 << 20;
/** Bytes up to which the parts of a line are joined when it has ended. */
const SHORT_LINE = 1 << 22;
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

/** Text that is not in a file of the data: standard input. */
export interface TextStream {
  /** For messages. */
  name: string;
  bytes: AsyncIterable<Uint8Array | string>;
}

const nameOf = (source: string | TextStream): string => (typeof source === 'string' ? source : source.name);

/** The file itself or its gzipped twin, whichever is there. */
export function findFile(path: string): string | undefined {
  return [path, `${path}.gz`].find((p) => existsSync(p));
}

/** What a reader of chunks says of the last one. */
interface Chunks {
  /** Whether it was copied, so that its memory can hold the next one: a long line would leave as much behind as it has. */
  copied: boolean;
}

/** A file's bytes, unpacked where its name ends in .gz. Errors are plain: see `unreadable`. */
async function* readBytes(file: string | TextStream, last: Chunks): AsyncGenerator<Buffer> {
  if (typeof file !== 'string') {
    for await (const chunk of file.bytes) yield Buffer.from(chunk as Uint8Array);
    return;
  }
  if (!file.endsWith('.gz')) return yield* readPlain(file, last);
  const source = createReadStream(file, { highWaterMark: CHUNK });
  const unpacked = createGunzip({ chunkSize: 1 << 18 });
  source.on('error', (e) => unpacked.destroy(e));
  let size = 0;
  for await (const chunk of source.pipe(unpacked)) {
    size += (chunk as Buffer).length;
    if (size > LARGEST_FILE || (size > RATIO_FROM && size > GREATEST_RATIO * unpacked.bytesWritten))
      throw new Error(TOO_LARGE);
    yield chunk as Buffer;
  }
}

async function* readPlain(file: string, last: Chunks): AsyncGenerator<Buffer> {
  const handle = await open(file);
  try {
    let own = Buffer.allocUnsafeSlow(CHUNK);
    for (let size = 0; ; ) {
      const { bytesRead } = await handle.read(own, 0, CHUNK, null);
      size += bytesRead;
      if (size > LARGEST_FILE) throw new Error(TOO_LARGE);
      if (!bytesRead) return;
      yield own.subarray(0, bytesRead);
      if (!last.copied) own = Buffer.allocUnsafeSlow(CHUNK);
    }
  } finally {
    await handle.close();
  }
}

/** UTF-8 without its byte order mark; UTF-16 with a byte order mark becomes UTF-8. */
async function* asUtf8(file: string | TextStream, last: Chunks): AsyncGenerator<Buffer> {
  let decoder: { decode(chunk?: Buffer, options?: { stream: boolean }): string } | undefined;
  let first = true;
  for await (let chunk of readBytes(file, last)) {
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
 * A text file or a stream as blocks of whole lines in UTF-8.
 * @throws InputError that names the line where bytes are not UTF-8
 */
export async function* readText(file: string | TextStream): AsyncGenerator<Buffer> {
  // The parts of a line that has not ended: joined once, or a long line would be copied for each part. A very long one is joined as
  // it is read, in one buffer of which only what is written takes memory.
  const rest: Buffer[] = [];
  let long: Buffer | undefined;
  let held = 0;
  let before = 0;
  const hold = (part: Buffer): void => {
    if (held + part.length <= SHORT_LINE) rest.push(part);
    else {
      const own = long ?? Buffer.allocUnsafeSlow(LONGEST_LINE + 2 * CHUNK);
      let at = 0;
      for (const before of rest) at += before.copy(own, at);
      part.copy(own, held);
      rest.length = 0;
      long = own;
    }
    held += part.length;
  };
  /** All that is held, which is held no longer: a long block is to be free as soon as the reader is done with it. */
  const checked = (): Buffer => {
    const block = long ? long.subarray(0, held) : rest.length === 1 ? rest[0] : Buffer.concat(rest);
    rest.length = 0;
    [long, held] = [undefined, 0];
    if (!isUtf8(block) || isWide(block)) throw badBytes(nameOf(file), block, before);
    for (let at = block.indexOf(NEWLINE); at >= 0; at = block.indexOf(NEWLINE, at + 1)) before++;
    return block;
  };
  const last: Chunks = { copied: false };
  for await (const chunk of asUtf8(file, last)) {
    last.copied = false;
    const end = chunk.lastIndexOf(NEWLINE) + 1;
    if (end) {
      hold(chunk.subarray(0, end));
      yield checked();
    }
    if (end === chunk.length) continue;
    hold(chunk.subarray(end));
    if (held > LONGEST_LINE) throw new Error(TOO_LARGE);
    last.copied = long !== undefined && !end;
  }
  if (held) yield checked();
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
export async function* readLines(file: string | TextStream): AsyncGenerator<Line> {
  let number = 0;
  try {
    for await (let block of readText(file)) {
      const lines = block.toString('utf8').split('\n');
      block = NOTHING;
      // A block ends with a newline, except perhaps the last one.
      if (lines.at(-1) === '') lines.pop();
      for (let i = 0; i < lines.length; i++) yield { text: taken(lines, i), number: ++number };
    }
  } catch (cause) {
    throw unreadable(nameOf(file), cause);
  }
}

const NOTHING = Buffer.alloc(0);

/** A line without its end, which is no longer held among the others: it may be long. */
function taken(lines: string[], i: number): string {
  const text = lines[i];
  lines[i] = '';
  return text.endsWith('\r') ? text.slice(0, -1) : text;
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
