/**
 * @file Token vectors of many texts in a folder, read by offset: a text's vectors are one read of the file, and no more of it is in
 * memory than 12 bytes a text.
 *
 * - `tokens.json`: format, codec, width, and whatever the owner adds.
 * - `tokens.bin`: the codes of text after text.
 * - `tokens.counts`: the number of tokens of each text, uint32, little-endian.
 */
import { closeSync, existsSync, fstatSync, ftruncateSync, openSync, readSync, writeSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { writeWhole } from '../../common/files.ts';
import { type TokenCodec, type TokenCodecName, tokenCodecs } from './token-codec.ts';

const FORMAT = 'onnx-distill-tokens-1';
const [HEADER, CODES, COUNTS] = ['tokens.json', 'tokens.bin', 'tokens.counts'];

/** What a folder of token vectors says of itself. */
export interface TokenHeader {
  codec: TokenCodecName;
  /** Numbers a token. */
  width: number;
  /** Of what the vectors depend on: another key, other vectors. */
  key: string;
}

const damaged = (folder: string, why: string): InputError =>
  new InputError({
    code: 'tokens.damaged',
    subject: `the token vectors in ${folder} cannot be read: ${why}`,
    remedy: 'remove the folder and run the same command again: they are computed again',
  });

/** Whether a folder holds token vectors. */
export const hasTokens = (folder: string): boolean => existsSync(join(folder, HEADER));

/** @throws InputError where the folder holds none, or those of another version */
export async function readTokenHeader(folder: string): Promise<TokenHeader> {
  const text = await readFile(join(folder, HEADER), 'utf8').catch(() => {
    throw damaged(folder, `there is no ${HEADER}`);
  });
  let value: Partial<TokenHeader & { format: string }> = {};
  try {
    value = JSON.parse(text);
  } catch {
    // Answered below.
  }
  const { format, codec, width, key } = value;
  if (format !== FORMAT) throw damaged(folder, `its format is ${JSON.stringify(format)} and not ${FORMAT}`);
  if (!codec || !Object.hasOwn(tokenCodecs, codec))
    throw damaged(folder, `the codec ${JSON.stringify(codec)} is not known`);
  if (!Number.isInteger(width) || (width as number) < 1 || typeof key !== 'string')
    throw damaged(folder, `${HEADER} states no width and key`);
  return { codec, width: width as number, key };
}

/** An open folder of token vectors. One process may append; others read what was there when they opened it. */
export class TokenFile {
  /** Texts. */
  get length(): number {
    return this.starts.length - 1;
  }
  /** Bytes of all codes. */
  get bytes(): number {
    return this.starts[this.length] * this.size;
  }
  private readonly codec: TokenCodec;
  private readonly size: number;

  private constructor(
    readonly folder: string,
    readonly header: TokenHeader,
    private readonly codes: number,
    private readonly counts: number,
    /** First token of each text, and one past the last. */
    private readonly starts: number[],
    private readonly writable: boolean,
  ) {
    this.codec = tokenCodecs[header.codec];
    this.size = this.codec.bytes(header.width);
  }

  /** Makes an empty folder, or opens it to append where it has the same header: what a kill left half written is cut off. */
  static async append(folder: string, header: TokenHeader): Promise<TokenFile> {
    if (!hasTokens(folder)) {
      await mkdir(folder, { recursive: true });
      for (const name of [CODES, COUNTS]) closeSync(openSync(join(folder, name), 'w'));
      await writeWhole(join(folder, HEADER), `${JSON.stringify({ format: FORMAT, ...header })}\n`);
    }
    const found = await readTokenHeader(folder);
    if (found.key !== header.key || found.codec !== header.codec || found.width !== header.width)
      throw new InputError({
        code: 'tokens.other',
        subject: `${folder} holds token vectors of another model, or in another form (${found.codec}, ${found.width} numbers a token)`,
        expected: `${header.codec}, ${header.width} numbers a token, of the same model`,
        remedy: 'name another folder, or remove this one',
      });
    return TokenFile.opened(folder, found, true);
  }

  /** @throws InputError where there are none, or they are not understood */
  static async open(folder: string): Promise<TokenFile> {
    return TokenFile.opened(folder, await readTokenHeader(folder), false);
  }

  private static opened(folder: string, header: TokenHeader, writable: boolean): TokenFile {
    const flag = writable ? 'r+' : 'r';
    const files: number[] = [];
    try {
      for (const name of [CODES, COUNTS]) files.push(openSync(join(folder, name), flag));
    } catch (cause) {
      for (const file of files) closeSync(file);
      throw damaged(folder, (cause as Error).message);
    }
    const [codes, counts] = files;
    const size = tokenCodecs[header.codec].bytes(header.width);
    const stated = new Uint8Array(Math.floor(fstatSync(counts).size / 4) * 4);
    readAll(counts, stated, 0);
    const numbers = new DataView(stated.buffer);
    const present = fstatSync(codes).size;
    const starts = [0];
    for (let i = 0; i < stated.length / 4; i++) {
      const end = starts[i] + numbers.getUint32(4 * i, true);
      if (end * size > present) break;
      starts.push(end);
    }
    if (writable) {
      ftruncateSync(counts, 4 * (starts.length - 1));
      ftruncateSync(codes, starts[starts.length - 1] * size);
    }
    return new TokenFile(folder, header, codes, counts, starts, writable);
  }

  /** Tokens of a text. */
  count(text: number): number {
    return this.starts[text + 1] - this.starts[text];
  }

  /** [count x bytes a token] the codes of a text. */
  codesOf(text: number): Uint8Array {
    if (!(text >= 0 && text < this.length)) throw new RangeError(`text ${text} of ${this.length} in ${this.folder}`);
    const out = new Uint8Array(this.count(text) * this.size);
    if (readAll(this.codes, out, this.starts[text] * this.size) < out.length)
      throw damaged(this.folder, `${CODES} ends before text ${text}`);
    return out;
  }

  /** [count, width] the vectors of a text. */
  read(text: number): Float32Array {
    return this.codec.decode(this.codesOf(text), this.header.width);
  }

  /** Appends the texts that come next. @param texts [n, width] each, with at least one token */
  add(texts: readonly Float32Array[]): void {
    if (!this.writable) throw new Error('opened to be read');
    const { width } = this.header;
    const counts = texts.map((t) => t.length / width);
    const codes = new Uint8Array(counts.reduce((a, b) => a + b, 0) * this.size);
    const numbers = new DataView(new ArrayBuffer(4 * texts.length));
    let at = 0;
    for (const [i, t] of texts.entries()) {
      const next = at + counts[i] * this.size;
      this.codec.encode(t, width, codes.subarray(at, next));
      numbers.setUint32(4 * i, counts[i], true);
      at = next;
    }
    // The counts last: codes without a count are cut off when the folder is opened again.
    writeAll(this.codes, codes, this.bytes);
    writeAll(this.counts, new Uint8Array(numbers.buffer), 4 * this.length);
    for (const n of counts) this.starts.push(this.starts[this.length] + n);
  }

  /** Leaves the first texts alone. */
  cut(texts: number): void {
    if (texts >= this.length) return;
    this.starts.length = texts + 1;
    ftruncateSync(this.counts, 4 * texts);
    ftruncateSync(this.codes, this.bytes);
  }

  close(): void {
    closeSync(this.codes);
    closeSync(this.counts);
  }
}

function readAll(file: number, into: Uint8Array, from: number): number {
  let done = 0;
  while (done < into.length) {
    const n = readSync(file, into, done, into.length - done, from + done);
    if (!n) break;
    done += n;
  }
  return done;
}

function writeAll(file: number, from: Uint8Array, at: number): void {
  for (let done = 0; done < from.length; ) done += writeSync(file, from, done, from.length - done, at + done);
}
