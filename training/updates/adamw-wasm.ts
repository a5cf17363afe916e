/** @file The inner loops of AdamW in WebAssembly's vector instructions, four numbers at a time. */

import { F32, F64, I32, leb, V128, wasmInstance } from '../../math/wasm.ts';

interface Exports {
  step(bytes: number, ...factors: readonly number[]): void;
  squares(bytes: number): number;
  scale(bytes: number, factor: number): void;
}

/** Numbers per call: four arrays of this size fit into the L1 and L2 caches. */
export const CHUNK = 4096;

export interface AdamWKernel {
  /** WebAssembly memory: a slice of the arrays is copied in before a call and out after it. */
  readonly parameter: Float32Array;
  readonly first: Float32Array;
  readonly second: Float32Array;
  readonly gradient: Float32Array;
  /** Updates the first n numbers; see Factors. */
  run(n: number, factors: readonly number[]): void;
  /** The sum of the first n gradients' squares, in float64. Numbers between n and the next multiple of four count too. */
  squares(n: number): number;
  /** Multiplies the first n parameters. */
  scale(n: number, factor: number): void;
}

/** In this order: scale of the gradient, beta1, 1 - beta1, beta2, 1 - beta2, rate, root of the second correction, eps, decay. */
const FACTORS = 9;

const BYTES = 4 * CHUNK;

// Opcodes, as the WebAssembly specification names them.
const [LOCAL_GET, LOCAL_SET, LOCAL_TEE, I32_CONST, I32_ADD, I32_LT_U] = [0x20, 0x21, 0x22, 0x41, 0x6a, 0x49];
const [LOOP, BR_IF, END, VOID, VECTOR] = [0x03, 0x0d, 0x0b, 0x40, 0xfd];
const SQRT = [VECTOR, 0xe3, 0x01];
const ADD = [VECTOR, 0xe4, 0x01];
const SUB = [VECTOR, 0xe5, 0x01];
const MUL = [VECTOR, 0xe6, 0x01];
const DIV = [VECTOR, 0xe7, 0x01];
const SPLAT = [VECTOR, 0x13];
const TO_DOUBLE = [VECTOR, 0x5f]; // the first two of four
const ADD_DOUBLE = [VECTOR, 0xf0, 0x01];
const MUL_DOUBLE = [VECTOR, 0xf2, 0x01];
const DOUBLE_AT = [VECTOR, 0x21];
const F64_ADD = 0xa0;
/** The last two of four numbers, first. */
const LAST_TWO = [VECTOR, 0x0d, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7];

const get = (i: number): number[] => [LOCAL_GET, i];
const set = (i: number): number[] => [LOCAL_SET, i];

/** Four numbers of an array (0 parameter, 1 and 2 moments, 3 gradient) at the position that local holds. */
const load = (array: number, position: number): number[] => [...get(position), VECTOR, 0x00, 4, ...leb(array * BYTES)];
const store = (array: number, position: number, value: number[]): number[] => [
  ...get(position),
  ...value,
  ...[VECTOR, 0x0b, 4, ...leb(array * BYTES)],
];

/** A loop over groups of four numbers until the position reaches local 0, the count in bytes. */
const loop = (position: number, body: number[]): number[] => [
  ...[LOOP, VOID, ...body],
  ...[...get(position), I32_CONST, 16, I32_ADD, LOCAL_TEE, position, ...get(0), I32_LT_U, BR_IF, 0],
  END,
];

/** m <- b1 m + (1 - b1) g; v <- b2 v + (1 - b2) g^2; p <- decay p - rate m / (sqrt v / c + eps). */
function stepCode(): number[] {
  // Locals: 0 the count in bytes, 1..9 the factors, 10 the position, 11..19 the factors four times, 20..22 g, m, v.
  const [POSITION, G, M, V] = [1 + FACTORS, 2 + 2 * FACTORS, 3 + 2 * FACTORS, 4 + 2 * FACTORS];
  const [scale, beta1, rest1, beta2, rest2, rate, correction, eps, decay] = Array.from({ length: FACTORS }, (_, i) =>
    get(2 + FACTORS + i),
  );
  const [g, m, v] = [G, M, V].map(get);
  return [
    ...[2, 1, I32, FACTORS + 3, V128],
    ...Array.from({ length: FACTORS }, (_, i) => [...get(1 + i), ...SPLAT, ...set(2 + FACTORS + i)]).flat(),
    ...loop(POSITION, [
      ...[...load(3, POSITION), ...scale, ...MUL, ...set(G)],
      ...[...load(1, POSITION), ...beta1, ...MUL, ...g, ...rest1, ...MUL, ...ADD, ...set(M)],
      ...[...load(2, POSITION), ...beta2, ...MUL, ...g, ...g, ...MUL, ...rest2, ...MUL, ...ADD, ...set(V)],
      ...store(1, POSITION, m),
      ...store(2, POSITION, v),
      ...store(0, POSITION, [
        ...[...load(0, POSITION), ...decay, ...MUL],
        ...[...rate, ...m, ...MUL, ...v, ...SQRT, ...correction, ...DIV, ...eps, ...ADD, ...DIV],
        ...SUB,
      ]),
    ]),
    END,
  ];
}

/** The sum of g^2 in float64, over even and odd positions separately, then added. */
function squaresCode(): number[] {
  // Locals: 0 the count in bytes, 1 the position, 2 four gradients, 3 two of them as float64, 4 and 5 sums.
  const [POSITION, G, D] = [1, 2, 3];
  const squared = (two: number[], sum: number): number[] => [
    ...[...two, ...TO_DOUBLE, ...set(D)],
    ...[...get(sum), ...get(D), ...get(D), ...MUL_DOUBLE, ...ADD_DOUBLE, ...set(sum)],
  ];
  return [
    ...[2, 1, I32, 4, V128],
    ...loop(POSITION, [
      ...[...load(3, POSITION), ...set(G)],
      ...squared(get(G), 4),
      ...squared([...get(G), ...get(G), ...LAST_TWO], 5),
    ]),
    ...[...get(4), ...get(5), ...ADD_DOUBLE, ...set(D)],
    ...[...get(D), ...DOUBLE_AT, 0, ...get(D), ...DOUBLE_AT, 1, F64_ADD],
    END,
  ];
}

/** p <- factor p. */
function scaleCode(): number[] {
  // Locals: 0 the count in bytes, 1 the factor, 2 the position, 3 the factor four times.
  const [POSITION, FACTOR] = [2, 3];
  return [
    ...[2, 1, I32, 1, V128],
    ...[...get(1), ...SPLAT, ...set(FACTOR)],
    ...loop(POSITION, store(0, POSITION, [...load(0, POSITION), ...get(FACTOR), ...MUL])),
    END,
  ];
}

export function adamWKernel(): AdamWKernel {
  const exports = wasmInstance<Exports>(
    [
      { name: 'step', parameters: [I32, ...Array(FACTORS).fill(F32)], results: [], code: stepCode() },
      { name: 'squares', parameters: [I32], results: [F64], code: squaresCode() },
      { name: 'scale', parameters: [I32, F32], results: [], code: scaleCode() },
    ],
    4 * BYTES,
  );
  const { buffer } = exports.memory;
  const array = (i: number): Float32Array => new Float32Array(buffer, i * BYTES, CHUNK);
  return {
    parameter: array(0),
    first: array(1),
    second: array(2),
    gradient: array(3),
    run: (n, factors) => exports.step(4 * n, ...factors),
    squares: (n) => exports.squares(4 * n),
    scale: (n, factor) => exports.scale(4 * n, factor),
  };
}
