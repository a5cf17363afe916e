/** @file The ids of a table: bytes in columns with an open-addressing index, in place of a string and an entry of a Map each. */
import { Column, TextColumn } from './columns.ts';

/** Ids by position. */
export interface Ids {
  readonly length: number;
  id(i: number): string;
  /** The position of an id; undefined where there is none. */
  indexOf(id: string): number | undefined;
}

/** Places by hash: a position, or nothing. Half to a quarter of the places are free. */
class Places {
  /** Positions from 1; 0 is free. */
  private slots = new Uint32Array(1 << 8);
  private count = 0;

  /** The place of an item with this hash: that of an equal one, or a free one. */
  find(hash: number, equals: (position: number) => boolean): number {
    const mask = this.slots.length - 1;
    let slot = hash & mask;
    while (this.slots[slot] && !equals(this.slots[slot] - 1)) slot = (slot + 1) & mask;
    return slot;
  }

  /** The position at a place; -1 where it is free. */
  at(slot: number): number {
    return this.slots[slot] - 1;
  }

  /** Enters a position at a free place. @param hashOf of positions that are there, for a larger table */
  enter(slot: number, position: number, hashOf: (position: number) => number): void {
    this.slots[slot] = position + 1;
    if (4 * ++this.count <= 3 * this.slots.length) return;
    const before = this.slots;
    this.slots = new Uint32Array(2 * before.length);
    for (const entry of before) if (entry) this.slots[this.find(hashOf(entry - 1), () => false)] = entry;
  }
}

/** Begins an id that UTF-8 cannot hold (half of a surrogate pair): no UTF-8 has this byte. */
const AS_UTF16 = 0xff;

function bytesOf(id: string): Buffer {
  return id.isWellFormed() ? Buffer.from(id) : Buffer.concat([Buffer.of(AS_UTF16), Buffer.from(id, 'utf16le')]);
}

const idOf = (bytes: Buffer): string => (bytes[0] === AS_UTF16 ? bytes.toString('utf16le', 1) : bytes.toString('utf8'));

/** FNV-1a over bytes, its bits mixed. */
function hashOf(bytes: Uint8Array): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) h = Math.imul(h ^ bytes[i], 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  return (h ^ (h >>> 15)) >>> 0;
}

/** Ids one after the other, without an index. */
export class IdColumn {
  private readonly texts = new TextColumn();

  push(id: string): void {
    this.texts.pushBytes(bytesOf(id));
  }

  /** All as a list that holds no string. */
  get all(): readonly string[] {
    return listOnDemand(this.texts.length, (i) => idOf(this.texts.slice(i)));
  }
}

/** Any texts as ids, in the order of adding. */
export class TextIds implements Ids {
  private readonly texts = new TextColumn();
  private readonly places = new Places();

  get length(): number {
    return this.texts.length;
  }

  id(i: number): string {
    return idOf(this.texts.slice(i));
  }

  /** The position of an id, added where it is new. */
  put(id: string): number {
    const known = this.indexOf(id);
    if (known === undefined) this.add(id);
    return known ?? this.texts.length - 1;
  }

  indexOf(id: string): number | undefined {
    const bytes = bytesOf(id);
    const position = this.places.at(this.placeOf(bytes));
    return position < 0 ? undefined : position;
  }

  /** Adds an id; of one that is there already, the first stays its position. */
  add(id: string): void {
    const bytes = bytesOf(id);
    const place = this.placeOf(bytes);
    const position = this.texts.length;
    this.texts.pushBytes(bytes);
    if (this.places.at(place) < 0) this.places.enter(place, position, (i) => hashOf(this.texts.slice(i)));
  }

  private placeOf(bytes: Buffer): number {
    return this.places.find(hashOf(bytes), (position) => this.texts.slice(position).equals(bytes));
  }
}

/** Digits of a hash that is an id, and its words of 32 bits. */
export const HASH_DIGITS = 24;
const WORDS = HASH_DIGITS / 8;

const digits = new RegExp(`^[0-9a-f]{${HASH_DIGITS}}$`);
const read = Buffer.alloc(4 * WORDS);

/** The words of a hash in hexadecimal; undefined for anything else. */
function wordsOf(id: string): [number, number, number] | undefined {
  if (!digits.test(id)) return undefined;
  read.write(id, 'hex');
  return [read.readUInt32BE(0), read.readUInt32BE(4), read.readUInt32BE(8)];
}

function hashAt(at: (i: number) => number, i: number): string {
  for (let w = 0; w < WORDS; w++) read.writeUInt32BE(at(WORDS * i + w), 4 * w);
  return read.toString('hex');
}

/** Hashes of 24 hexadecimal digits as ids, in the order of adding. */
export class HashIds implements Ids {
  private words = new Column(Uint32Array);
  private places = new Places();

  get length(): number {
    return this.words.length / WORDS;
  }

  id(i: number): string {
    return hashAt((at) => this.words.at(at), i);
  }

  indexOf(id: string): number | undefined {
    const words = wordsOf(id);
    const position = words ? this.places.at(this.placeOf(words)) : -1;
    return position < 0 ? undefined : position;
  }

  /** @throws RangeError for anything but a hash */
  add(id: string): void {
    const words = wordsOf(id);
    if (!words) throw new RangeError(`the id '${id}' is not a hash of ${HASH_DIGITS} digits`);
    const place = this.placeOf(words);
    const position = this.length;
    for (const word of words) this.words.push(word);
    if (this.places.at(place) < 0) this.places.enter(place, position, (i) => this.words.at(WORDS * i));
  }

  private placeOf([a, b, c]: readonly [number, number, number]): number {
    const { words } = this;
    return this.places.find(
      a,
      (i) => words.at(WORDS * i) === a && words.at(WORDS * i + 1) === b && words.at(WORDS * i + 2) === c,
    );
  }

  /** The ids in their own order, and the position that each had. They are no longer held here. */
  sorted(): { ids: Ids; order: Int32Array } {
    this.places = new Places();
    const words = this.words.all;
    this.words = new Column(Uint32Array);
    const order = orderOfHashes(words);
    const n = order.length;
    const sorted = new Uint32Array(words.length);
    for (let i = 0; i < n; i++) for (let w = 0; w < WORDS; w++) sorted[WORDS * i + w] = words[WORDS * order[i] + w];
    const ids: Ids = {
      length: n,
      id: (i) => hashAt((at) => sorted[at], i),
      indexOf(id) {
        const sought = wordsOf(id);
        return sought && placeAmong(sorted, sought);
      },
    };
    return { ids, order };
  }
}

/** Where a hash stands among sorted ones. */
function placeAmong(sorted: Uint32Array, [a, b, c]: readonly [number, number, number]): number | undefined {
  const compare = (i: number): number =>
    sorted[WORDS * i] - a || sorted[WORDS * i + 1] - b || sorted[WORDS * i + 2] - c;
  const n = sorted.length / WORDS;
  let [low, high] = [0, n];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (compare(middle) < 0) low = middle + 1;
    else high = middle;
  }
  return low < n && compare(low) === 0 ? low : undefined;
}

/** The order of hashes: they are spread evenly, so that as many buckets as hashes hold few each. */
function orderOfHashes(words: Uint32Array): Int32Array {
  const n = words.length / WORDS;
  const bucketOf = (i: number): number => Math.floor((words[WORDS * i] / 2 ** 32) * n);
  const ends = new Int32Array(n + 1);
  for (let i = 0; i < n; i++) ends[bucketOf(i) + 1]++;
  for (let b = 0; b < n; b++) ends[b + 1] += ends[b];
  const order = new Int32Array(n);
  // Filled from the end, so that `ends` become the starts that they were shifted from.
  const next = ends.slice(0, n);
  for (let i = 0; i < n; i++) order[next[bucketOf(i)]++] = i;
  const compare = (x: number, y: number): number =>
    words[WORDS * x] - words[WORDS * y] ||
    words[WORDS * x + 1] - words[WORDS * y + 1] ||
    words[WORDS * x + 2] - words[WORDS * y + 2];
  for (let b = 0; b < n; b++) if (ends[b + 1] - ends[b] > 1) order.subarray(ends[b], ends[b + 1]).sort(compare);
  return order;
}

/**
 * A list whose items are made when they are read: nothing is held for them. It is read only, and an array in all else.
 * @param item the item at a position
 */
export function listOnDemand<T>(length: number, item: (i: number) => T): readonly T[] {
  const place = (key: string | symbol): number => {
    const i = typeof key === 'string' ? Number(key) : -1;
    return i >= 0 && i < length && Number.isInteger(i) && String(i) === key ? i : -1;
  };
  const refuse = (): boolean => false;
  return new Proxy<T[]>([], {
    get(target, key) {
      if (key === 'length') return length;
      const i = place(key);
      return i < 0 ? Reflect.get(target, key) : item(i);
    },
    has: (target, key) => place(key) >= 0 || Reflect.has(target, key),
    ownKeys: () => [...Array.from({ length }, (_, i) => String(i)), 'length'],
    getOwnPropertyDescriptor(target, key) {
      const i = place(key);
      if (i >= 0) return { value: item(i), writable: true, enumerable: true, configurable: true };
      const own = Reflect.getOwnPropertyDescriptor(target, key);
      return key === 'length' && own ? { ...own, value: length } : own;
    },
    set: refuse,
    defineProperty: refuse,
    deleteProperty: refuse,
  });
}
