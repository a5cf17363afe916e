/** @file Columns that grow without copies: numbers and texts of millions of rows in blocks, a few bytes of overhead each. */

type Numbers = Int32Array | Uint32Array | Float32Array | Float64Array;

/** Numbers of the first block; each further one is as long as all before it, so that a long column has few. */
const FIRST_NUMBERS = 1 << 12;

/** Numbers that are added one by one and read at the end. */
export class Column<T extends Numbers> {
  length = 0;
  private readonly type: { new (length: number): T };
  private readonly blocks: T[] = [];
  /** Numbers that the blocks hold. */
  private room = 0;
  /** Numbers before the last block. */
  private before = 0;
  private whole: T | undefined;

  constructor(type: { new (length: number): T }) {
    this.type = type;
  }

  push(value: number): void {
    if (this.length === this.room) {
      this.before = this.room;
      this.room = this.room ? 2 * this.room : FIRST_NUMBERS;
      this.blocks.push(new this.type(this.room - this.before));
    }
    this.blocks[this.blocks.length - 1][this.length++ - this.before] = value;
  }

  at(i: number): number {
    if (this.whole) return this.whole[i];
    if (i < FIRST_NUMBERS) return this.blocks[0][i];
    const high = 31 - Math.clz32(i / FIRST_NUMBERS);
    return this.blocks[high + 1][i - FIRST_NUMBERS * 2 ** high];
  }

  /** All as one array, which changes are made in; nothing is added after this. Each block is given up as it is copied. */
  get all(): T {
    if (this.whole) return this.whole;
    const whole = new this.type(this.length);
    for (let from = 0; this.blocks.length; ) {
      const block = this.blocks.shift() as T;
      whole.set(block.subarray(0, this.length - from) as T & ArrayLike<number>, from);
      from += block.length;
    }
    this.whole = whole;
    return whole;
  }
}

/** Bytes of a block of text; a longer text has as many as it needs. */
const BYTES = 1 << 24;
const FIRST = 1 << 16;

/** Bytes from which a text is kept as the string that it came as, since each copy of it counts; as many bytes in all. */
const LONG = 1 << 22;
const MOST_LONG = 1 << 28;
/** Characters of a long text that are encoded at a time. */
const PART = 1 << 20;

/** Texts as UTF-8 in blocks, with the end of each. */
export class TextColumn {
  /** Long texts by position. */
  private readonly long = new Map<number, string>();
  private longBytes = 0;
  /** By block; the buffer of a text of several blocks stands at the first, its rest at the others. */
  private readonly blocks: Buffer[] = [];
  private readonly ends = new Column(Float64Array);
  private end = 0;

  get length(): number {
    return this.ends.length;
  }

  /** Bytes of the texts, and of the ends of blocks that no text fitted in. */
  get bytes(): number {
    return this.end + this.longBytes;
  }

  /** @param size the text's bytes in UTF-8, where known */
  push(text: string, size = Buffer.byteLength(text)): void {
    if (size >= LONG && this.longBytes + size <= MOST_LONG) {
      this.long.set(this.length, text.toWellFormed());
      this.longBytes += size;
      this.close(0);
      return;
    }
    if (size) this.room(size).write(text);
    this.close(size);
  }

  pushBytes(bytes: Buffer): void {
    if (bytes.length) this.room(bytes.length).set(bytes);
    this.close(bytes.length);
  }

  private close(size: number): void {
    this.end += size;
    this.ends.push(this.end);
  }

  /** Where as many bytes go: in the last block, or in a new one where they do not fit. */
  private room(size: number): Buffer {
    if ((this.end % BYTES) + size > BYTES || this.end % BYTES === 0) {
      this.end = Math.ceil(this.end / BYTES) * BYTES;
      // The first grows, so that a small table is small.
      const own = Buffer.allocUnsafeSlow(this.end || size > FIRST ? Math.ceil(size / BYTES) * BYTES : FIRST);
      for (let from = 0; from < own.length; from += BYTES) this.blocks.push(from ? own.subarray(from) : own);
    }
    const block = Math.floor(this.end / BYTES);
    const from = this.end % BYTES;
    if (from + size > this.blocks[block].length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(BYTES, Math.max(2 * this.blocks[block].length, from + size)));
      this.blocks[block].copy(larger, 0, 0, from);
      this.blocks[block] = larger;
    }
    return this.blocks[block].subarray(from, from + size);
  }

  /** The bytes of a text, a long one in parts, which are good until the next is asked for. */
  *parts(i: number): Generator<Buffer> {
    const long = this.long.get(i);
    if (long === undefined) return yield this.slice(i);
    const part = Buffer.allocUnsafeSlow(3 * PART);
    for (let from = 0; from < long.length; ) {
      let end = Math.min(from + PART, long.length);
      // Not between the halves of a pair.
      if (end < long.length && (long.charCodeAt(end) & 0xfc00) === 0xdc00) end--;
      yield part.subarray(0, part.write(long.slice(from, end)));
      from = end;
    }
  }

  /** The bytes of a text that is not long, or of its beginning. */
  slice(i: number, size?: number): Buffer {
    const before = i ? this.ends.at(i - 1) : 0;
    const end = this.ends.at(i);
    if (end === before) return NONE;
    const moved = Math.floor(before / BYTES) !== Math.floor((end - 1) / BYTES);
    const start = moved ? Math.ceil(before / BYTES) * BYTES : before;
    const from = start % BYTES;
    return this.blocks[Math.floor(start / BYTES)].subarray(from, from + Math.min(size ?? end - start, end - start));
  }

  /** @param size bytes of its beginning; all by default */
  text(i: number, size?: number): string {
    const long = this.long.size ? this.long.get(i) : undefined;
    if (long !== undefined)
      return size === undefined ? long : Buffer.from(long.slice(0, size)).toString('utf8', 0, size);
    return this.slice(i, size).toString('utf8');
  }
}

const NONE = Buffer.alloc(0);
