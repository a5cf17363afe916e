/** @file Scans of codes in WebAssembly's vector instructions: four float32 or sixteen int8 at a time, or sums looked up by byte. */
import { F32, I32, leb, sharedInstance, signed, V128, type WasmFunction, wasmInstance } from '../../math/wasm.ts';
import { ScanPool, type SharedCodes, scanThreads } from './scan-threads.ts';

interface Exports {
  /** Rows from..end of so many bytes each; a score of each is written from `out` on. */
  float32(from: number, end: number, bytes: number, out: number, extra: number): void;
  float16(from: number, end: number, bytes: number, out: number, extra: number): void;
  int8(from: number, end: number, bytes: number, out: number, scale: number): void;
  lookUp(from: number, end: number, bytes: number, out: number, extra: number): void;
}

/** Where a query, or the table of sums by byte, is put: from 0 to here. Scores follow, then the codes. */
const QUERY = 1 << 18;
/** Scores of one call. */
const ROWS = 8192;
const CODES = QUERY + 4 * ROWS;
/** Scores of one call of a thread, in a memory that threads share. */
const regionOf = (thread: number): number => QUERY + 4 * ROWS * thread;
/** Bytes that one memory can have. */
const MOST = 2 ** 32 - 65_536;

// Opcodes, as the WebAssembly specification names them.
const [GET, SET, CONST, ADD, SUB, SHL, LT_U] = [0x20, 0x21, 0x41, 0x6a, 0x6b, 0x74, 0x49];
const [LOOP, BR_IF, END, VOID, VECTOR] = [0x03, 0x0d, 0x0b, 0x40, 0xfd];
const [F32_LOAD, F32_STORE, BYTE_LOAD, F32_ADD, F32_MUL, TO_F32] = [0x2a, 0x38, 0x2d, 0x92, 0x94, 0xb2];
const vector = (code: number): number[] => [VECTOR, ...leb(code)];
const [LOW, HIGH, ADD_I32X4, DOT, ADD_F32X4, MUL_F32X4] = [0x87, 0x88, 0xae, 0xba, 0xe4, 0xe6].map(vector);
const [LOW_UNSIGNED, HIGH_UNSIGNED, SHL_I32X4, AND, OR] = [0xa9, 0xaa, 0xab, 0x4e, 0x50].map(vector);
const ZERO = [...vector(0x0c), ...new Array<number>(16).fill(0)];

const get = (i: number): number[] => [GET, i];
const set = (i: number, value: number[]): number[] => [...value, SET, i];
const add = (i: number, bytes: number): number[] => set(i, [...get(i), CONST, ...signed(bytes), ADD]);
const loop = (body: number[], i: number, end: number): number[] => [
  ...[LOOP, VOID, ...body],
  ...[...get(i), ...get(end), LT_U, BR_IF, 0, END],
];
const loadVector = (at: number[], offset: number): number[] => [...at, ...vector(0), 0, ...leb(offset)];

// Parameters, the same in all: the first row, where rows end, bytes a row, where scores go.
const [ROW, ROWS_END, BYTES, OUT] = [0, 1, 2, 3];
/** Every row in turn: its code leaves a score, which is stored. */
const rows = (score: number[]): number[] => [
  ...loop(
    [...[...get(OUT), ...score, F32_STORE, 2, 0], ...set(ROW, [...get(ROW), ...get(BYTES), ADD]), ...add(OUT, 4)],
    ROW,
    ROWS_END,
  ),
  END,
];

/** Products of so many vectors of four at a time; each has a sum of its own, since additions take several cycles. */
function float32Code(at: number): number[] {
  const [K, SUM] = [4, 5];
  const here = [...get(ROW), ...get(K), ADD];
  const product = (u: number): number[] => [...loadVector(here, 16 * u), ...loadVector(get(K), 16 * u), ...MUL_F32X4];
  const lane = (i: number): number[] => [...get(SUM), ...vector(0x1f), i];
  const each = Array.from({ length: at }, (_, u) => u);
  return [
    ...[2, 1, I32, at, V128],
    ...rows([
      ...each.flatMap((u) => set(SUM + u, ZERO)),
      ...set(K, [CONST, 0]),
      ...loop(
        [...each.flatMap((u) => set(SUM + u, [...get(SUM + u), ...product(u), ...ADD_F32X4])), ...add(K, 16 * at)],
        K,
        BYTES,
      ),
      ...each.slice(1).flatMap((u) => set(SUM, [...get(SUM), ...get(SUM + u), ...ADD_F32X4])),
      ...[...lane(0), ...lane(1), F32_ADD, ...lane(2), ...lane(3), F32_ADD, F32_ADD],
    ]),
  ];
}

/**
 * The bits of a half, moved to where a float32 has them, are its value by 2^-112: the query is given by 2^112.
 * The largest exponent, infinity's, does not occur.
 */
function float16Code(): number[] {
  const [K, V, X, SUM] = [4, 5, 6, 7];
  const query = (offset: number): number[] => loadVector([...get(K), CONST, 1, SHL], offset);
  const all = (bits: number): number[] => [CONST, ...signed(bits), ...vector(0x11)];
  const lane = (i: number): number[] => [...get(SUM), ...vector(0x1f), i];
  const half = (sum: number, part: number[], offset: number): number[] => [
    ...set(X, [...get(V), ...part]),
    ...set(X, [
      ...[...get(X), ...all(0x7fff), ...AND, CONST, 13, ...SHL_I32X4],
      ...[...get(X), ...all(0x8000), ...AND, CONST, 16, ...SHL_I32X4, ...OR],
    ]),
    ...set(sum, [...get(sum), ...get(X), ...query(offset), ...MUL_F32X4, ...ADD_F32X4]),
  ];
  return [
    ...[2, 1, I32, 4, V128],
    ...rows([
      ...set(SUM, ZERO),
      ...set(SUM + 1, ZERO),
      ...set(K, [CONST, 0]),
      ...loop(
        [
          ...set(V, loadVector([...get(ROW), ...get(K), ADD], 0)),
          ...half(SUM, LOW_UNSIGNED, 0),
          ...half(SUM + 1, HIGH_UNSIGNED, 16),
          ...add(K, 16),
        ],
        K,
        BYTES,
      ),
      ...set(SUM, [...get(SUM), ...get(SUM + 1), ...ADD_F32X4]),
      ...[...lane(0), ...lane(1), F32_ADD, ...lane(2), ...lane(3), F32_ADD, F32_ADD],
    ]),
  ];
}

/** A row is its scale as float32, then int8; the query is int16. Products are added up as int32. */
function int8Code(): number[] {
  const [SCALE, K, WIDTH, V, SUM] = [4, 5, 6, 7, 8];
  const query = (offset: number): number[] => loadVector([...get(K), CONST, 1, SHL], offset);
  const lane = (i: number): number[] => [...get(SUM), ...vector(0x1b), i];
  const half = (sum: number, part: number[], offset: number): number[] =>
    set(sum, [...get(sum), ...get(V), ...part, ...query(offset), ...DOT, ...ADD_I32X4]);
  return [
    ...[2, 2, I32, 3, V128],
    ...set(WIDTH, [...get(BYTES), CONST, 4, SUB]),
    ...rows([
      ...set(SUM, ZERO),
      ...set(SUM + 1, ZERO),
      ...set(K, [CONST, 0]),
      ...loop(
        [
          ...set(V, loadVector([...get(ROW), ...get(K), ADD], 4)),
          ...half(SUM, LOW, 0),
          ...half(SUM + 1, HIGH, 16),
          ...add(K, 16),
        ],
        K,
        WIDTH,
      ),
      ...set(SUM, [...get(SUM), ...get(SUM + 1), ...ADD_I32X4]),
      ...[...lane(0), ...lane(1), ADD, ...lane(2), ...lane(3), ADD, ADD, TO_F32],
      ...[...get(ROW), F32_LOAD, 0, 0, F32_MUL, ...get(SCALE), F32_MUL],
    ]),
  ];
}

/** Of every byte the number in its table of 256; four sums. */
function lookUpCode(): number[] {
  const [P, ROW_END, TABLE, SUM] = [4, 5, 6, 7];
  const sums = [0, 1, 2, 3];
  const found = (u: number): number[] => [
    ...[...get(P), BYTE_LOAD, 0, u, CONST, 2, SHL, ...get(TABLE), ADD],
    ...[F32_LOAD, 2, ...leb(1024 * u)],
  ];
  return [
    ...[2, 3, I32, 4, F32],
    ...rows([
      ...sums.flatMap((u) => set(SUM + u, [0x43, 0, 0, 0, 0])),
      ...set(P, get(ROW)),
      ...set(ROW_END, [...get(ROW), ...get(BYTES), ADD]),
      ...set(TABLE, [CONST, 0]),
      ...loop(
        [
          ...sums.flatMap((u) => set(SUM + u, [...get(SUM + u), ...found(u), F32_ADD])),
          ...add(P, 4),
          ...add(TABLE, 4096),
        ],
        P,
        ROW_END,
      ),
      ...[...get(SUM), ...get(SUM + 1), F32_ADD, ...get(SUM + 2), ...get(SUM + 3), F32_ADD, F32_ADD],
    ]),
  ];
}

const four = [I32, I32, I32, I32];
const functions = (floats: number): WasmFunction[] => [
  { name: 'float32', parameters: four, results: [], code: float32Code(floats) },
  { name: 'float16', parameters: four, results: [], code: float16Code() },
  { name: 'int8', parameters: [...four, F32], results: [], code: int8Code() },
  { name: 'lookUp', parameters: four, results: [], code: lookUpCode() },
];

interface Placed {
  exports: Exports;
  /** Where other threads can scan too. */
  shared?: SharedCodes;
  /** What the query's place holds, by whose scorer. */
  holds?: object;
}
const placed = new WeakMap<ArrayBufferLike, Placed>();

/**
 * The same codes in a memory that the kernels read; scorers of a codec then run there, where they have a kernel.
 * Codes that are too long for one memory stay where they are.
 */
export function place(codes: Uint8Array): Uint8Array {
  if (!codes.length || placed.has(codes.buffer) || CODES + codes.length > MOST) return codes;
  const own = roomFor(codes.length);
  own.set(codes);
  return own;
}

/** Room for codes where the kernels read them, all zeros; anywhere for none, and for more than one memory holds. */
export function roomFor(bytes: number): Uint8Array {
  const { fromBytes, most } = scanThreads;
  if (bytes >= fromBytes && most > 1 && regionOf(most) + bytes <= MOST) {
    const { exports, module, memory } = sharedInstance<Exports>(functions(4), regionOf(most) + bytes);
    const own = new Uint8Array(memory.buffer, regionOf(most), bytes);
    placed.set(own.buffer, { exports, shared: { module, memory } });
    return own;
  }
  if (!bytes || CODES + bytes > MOST) return new Uint8Array(bytes);
  const exports = wasmInstance<Exports>(functions(4), CODES + bytes);
  const own = new Uint8Array(exports.memory.buffer, CODES, bytes);
  placed.set(own.buffer, { exports });
  return own;
}

const KERNELS: readonly (keyof Exports)[] = ['float32', 'float16', 'int8', 'lookUp'];
let pool: ScanPool | undefined;
/** Where the threads other than the calling one leave scores. */
const others = (threads: number): number[] => Array.from({ length: threads - 1 }, (_, t) => regionOf(t + 1));

type Scan = (codes: Uint8Array, from: number, to: number, out: Float32Array) => void;

/**
 * A scan by a kernel for codes that were placed, and by the plain loop for others.
 * @param query what the kernel reads: the query, or the table of sums
 * @param bytes a row; @param kernel its name; @param extra its last argument, where it has one
 */
export function placedScan(
  query: Float32Array | Int16Array,
  bytes: number,
  { kernel, extra = 0 }: { kernel: keyof Exports; extra?: number },
  plain: Scan,
): Scan {
  const own = {};
  if (query.byteLength > QUERY) return plain;
  return (codes, from, to, out) => {
    const there = placed.get(codes.buffer);
    if (!there) return plain(codes, from, to, out);
    if (there.holds !== own) {
      const Kind = query instanceof Int16Array ? Int16Array : Float32Array;
      new Kind(codes.buffer as ArrayBuffer, 0, query.length).set(query);
      there.holds = own;
    }
    const base = codes.byteOffset;
    const block = (at: number, end: number, into: Float32Array): void => {
      there.exports[kernel](base + at * bytes, base + end * bytes, bytes, QUERY, extra);
      into.set(new Float32Array(codes.buffer, QUERY, end - at));
    };
    if (there.shared && (to - from) * bytes >= scanThreads.fromBytes) {
      pool ??= new ScanPool({ kernels: KERNELS, rows: ROWS, regions: others(scanThreads.most) });
      if (pool.scan(there.shared, { kernel, base, bytes, from, to, extra }, out, block)) return;
    }
    for (let at = from; at < to; at += ROWS) {
      const end = Math.min(to, at + ROWS);
      block(at, end, out.subarray(at - from, end - from));
    }
  };
}
