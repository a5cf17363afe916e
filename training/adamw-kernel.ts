/** @file The inner loop of AdamW in WebAssembly's vector instructions, four numbers at a time. */

/** What is used here of WebAssembly, whose types come with the browser's otherwise. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (
    module: object,
  ) => {
    exports: { memory: { buffer: ArrayBuffer }; step(bytes: number, ...factors: readonly number[]): void };
  };
};

/** Numbers in one call: four arrays of them stay in a processor's nearest caches. */
export const CHUNK = 4096;

export interface AdamWKernel {
  /** Where a stretch of the arrays is put before a call and taken from after it. */
  readonly parameter: Float32Array;
  readonly first: Float32Array;
  readonly second: Float32Array;
  readonly gradient: Float32Array;
  /** Updates the first n numbers; see Factors. */
  run(n: number, factors: readonly number[]): void;
}

/** In this order: scale of the gradient, beta1, 1 - beta1, beta2, 1 - beta2, rate, root of the second correction, eps, decay. */
const FACTORS = 9;

const BYTES = 4 * CHUNK;
const PAGE = 65_536;

// Opcodes, as the WebAssembly specification names them.
const [LOCAL_GET, LOCAL_SET, LOCAL_TEE, I32_CONST, I32_ADD, I32_LT_U] = [0x20, 0x21, 0x22, 0x41, 0x6a, 0x49];
const [LOOP, BR_IF, END, VOID, VECTOR] = [0x03, 0x0d, 0x0b, 0x40, 0xfd];
const [I32, F32, V128] = [0x7f, 0x7d, 0x7b];
const SQRT = [VECTOR, 0xe3, 0x01];
const ADD = [VECTOR, 0xe4, 0x01];
const SUB = [VECTOR, 0xe5, 0x01];
const MUL = [VECTOR, 0xe6, 0x01];
const DIV = [VECTOR, 0xe7, 0x01];
const SPLAT = [VECTOR, 0x13];

const leb = (n: number): number[] => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >>> 7)]);
const section = (id: number, body: number[]): number[] => [id, ...leb(body.length), ...body];
const text = (s: string): number[] => [s.length, ...Buffer.from(s)];

/** The module's bytes: m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; p <- decay p - rate m / (sqrt v / c + eps). */
function moduleBytes(): Uint8Array {
  // Locals: 0 the count in bytes, 1..9 the factors, 10 the position, 11..19 the factors four times, 20..22 g, m, v.
  const [COUNT, POSITION, G, M, V] = [0, 1 + FACTORS, 2 + 2 * FACTORS, 3 + 2 * FACTORS, 4 + 2 * FACTORS];
  const get = (i: number): number[] => [LOCAL_GET, i];
  const set = (i: number): number[] => [LOCAL_SET, i];
  const [scale, beta1, rest1, beta2, rest2, rate, correction, eps, decay] = Array.from({ length: FACTORS }, (_, i) =>
    get(2 + FACTORS + i),
  );
  const load = (array: number): number[] => [...get(POSITION), VECTOR, 0x00, 4, ...leb(array * BYTES)];
  const store = (array: number, value: number[]): number[] => [
    ...get(POSITION),
    ...value,
    VECTOR,
    0x0b,
    4,
    ...leb(array * BYTES),
  ];
  const [g, m, v] = [G, M, V].map(get);
  const body = [
    ...Array.from({ length: FACTORS }, (_, i) => [...get(1 + i), ...SPLAT, ...set(2 + FACTORS + i)]).flat(),
    LOOP,
    VOID,
    ...[...load(3), ...scale, ...MUL, ...set(G)],
    ...[...load(1), ...beta1, ...MUL, ...g, ...rest1, ...MUL, ...ADD, ...set(M)],
    ...[...load(2), ...beta2, ...MUL, ...g, ...g, ...MUL, ...rest2, ...MUL, ...ADD, ...set(V)],
    ...store(1, m),
    ...store(2, v),
    ...store(0, [
      ...[...load(0), ...decay, ...MUL],
      ...[...rate, ...m, ...MUL, ...v, ...SQRT, ...correction, ...DIV, ...eps, ...ADD, ...DIV],
      ...SUB,
    ]),
    ...[...get(POSITION), I32_CONST, 16, I32_ADD, LOCAL_TEE, POSITION, ...get(COUNT), I32_LT_U, BR_IF, 0],
    END,
    END,
  ];
  const locals = [2, 1, I32, FACTORS + 3, V128];
  const code = [...locals, ...body];
  return Uint8Array.from([
    ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 1 + FACTORS, I32, ...Array(FACTORS).fill(F32), 0]),
    ...section(3, [1, 0]),
    ...section(5, [1, 0, ...leb((4 * BYTES) / PAGE)]),
    ...section(7, [2, ...text('memory'), 2, 0, ...text('step'), 0, 0]),
    ...section(10, [1, ...leb(code.length), ...code]),
  ]);
}

export function adamWKernel(): AdamWKernel {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(moduleBytes()));
  const { buffer } = exports.memory;
  const array = (i: number): Float32Array => new Float32Array(buffer, i * BYTES, CHUNK);
  return {
    parameter: array(0),
    first: array(1),
    second: array(2),
    gradient: array(3),
    run: (n, factors) => exports.step(4 * n, ...factors),
  };
}
