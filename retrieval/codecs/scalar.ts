/** @file Codecs that keep numbers in float32, in half precision, or as integers with a scale per vector. */
import { floatToHalf, halfTable } from '../../math/half.ts';
import type { Codec, Vectors } from './codec.ts';
import { rowOf } from './codec.ts';
import { placedScan } from './kernel.ts';

export const float32: Codec = {
  about: 'as they are',
  bytes: (dimensions) => 4 * dimensions,
  learn: () => ({}),
  encode: ({ data }) => new Uint8Array(data.slice().buffer),
  decode: ({ buffer, byteOffset, byteLength }) => new Float32Array(buffer, byteOffset, byteLength >> 2).slice(),
  scorer: (query) => {
    const D = query.length;
    const plain = (codes: Uint8Array, from: number, to: number, out: Float32Array): void => {
      const rows = new Float32Array(codes.buffer, codes.byteOffset, codes.byteLength >> 2);
      for (let i = from; i < to; i++) {
        let s = 0;
        for (let k = 0, at = i * D; k < D; k++) s += query[k] * rows[at + k];
        out[i - from] = s;
      }
    };
    if (D % 16) return plain;
    return placedScan(query, 4 * D, { kernel: 'float32' }, plain);
  },
};

export const float16: Codec = {
  about: 'half precision',
  bytes: (dimensions) => 2 * dimensions,
  learn: () => ({}),
  encode: ({ data }) => {
    const halves = new Uint16Array(data.length);
    for (let i = 0; i < data.length; i++) halves[i] = floatToHalf(data[i]);
    return new Uint8Array(halves.buffer);
  },
  decode: ({ buffer, byteOffset, byteLength }) => {
    const value = halfTable();
    return Float32Array.from(new Uint16Array(buffer, byteOffset, byteLength >> 1), (half) => value[half]);
  },
  scorer: (query) => {
    const D = query.length;
    const plain = (codes: Uint8Array, from: number, to: number, out: Float32Array): void => {
      const value = halfTable();
      const rows = new Uint16Array(codes.buffer, codes.byteOffset, codes.byteLength >> 1);
      for (let i = from; i < to; i++) {
        let s = 0;
        for (let k = 0, at = i * D; k < D; k++) s += query[k] * value[rows[at + k]];
        out[i - from] = s;
      }
    };
    const raised = query.map((v) => v * 2 ** 112);
    if (D % 8 || !raised.every(Number.isFinite)) return plain;
    return placedScan(raised, 2 * D, { kernel: 'float16' }, plain);
  },
};

/** Largest absolute value of a row over the largest whole number. */
function scaleOf(row: Float32Array, most: number): number {
  let largest = 0;
  for (let k = 0; k < row.length; k++) largest = Math.max(largest, Math.abs(row[k]));
  return largest / most || 1;
}

/** Codes are the scale as float32, then the whole numbers. */
function wholeNumbers(
  { data, dimensions }: Vectors,
  size: number,
  write: (row: Float32Array, into: Uint8Array) => number,
) {
  const n = data.length / dimensions;
  const codes = new Uint8Array(n * size);
  const view = new DataView(codes.buffer);
  for (let i = 0; i < n; i++) {
    const scale = write(rowOf({ data, dimensions }, i), codes.subarray(i * size + 4, (i + 1) * size));
    view.setFloat32(i * size, scale, true);
  }
  return codes;
}

export const int8: Codec = {
  about: 'whole numbers from -127 to 127 with a scale a vector',
  bytes: (dimensions) => dimensions + 4,
  learn: () => ({}),
  encode: (vectors) =>
    wholeNumbers(vectors, int8.bytes(vectors.dimensions), (row, into) => {
      const scale = scaleOf(row, 127);
      for (let k = 0; k < row.length; k++) into[k] = Math.round(row[k] / scale);
      return scale;
    }),
  decode: (codes, dimensions) => {
    const size = int8.bytes(dimensions);
    const view = new DataView(codes.buffer, codes.byteOffset, codes.byteLength);
    const out = new Float32Array((codes.length / size) * dimensions);
    for (let i = 0, at = 0; at < codes.length; i++, at += size)
      for (let k = 0; k < dimensions; k++)
        out[i * dimensions + k] = view.getFloat32(at, true) * view.getInt8(at + 4 + k);
    return out;
  },
  scorer: (query) => {
    const size = int8.bytes(query.length);
    const plain = (codes: Uint8Array, from: number, to: number, out: Float32Array): void => {
      const view = new DataView(codes.buffer, codes.byteOffset, codes.byteLength);
      const whole = new Int8Array(codes.buffer, codes.byteOffset, codes.byteLength);
      for (let i = from; i < to; i++) {
        let s = 0;
        for (let k = 0, at = i * size + 4; k < query.length; k++) s += query[k] * whole[at + k];
        out[i - from] = s * view.getFloat32(i * size, true);
      }
    };
    if (query.length % 16) return plain;
    // The kernel's query is int16, as fine as the sums of its products with int8 fit in int32.
    const most = query.reduce((m, v) => Math.max(m, Math.abs(v)), 0);
    const sum = query.reduce((s, v) => s + Math.abs(v), 0);
    const steps = Math.min(32_767 / most, 2 ** 30 / (127 * sum));
    if (!Number.isFinite(steps)) return plain;
    const whole = Int16Array.from(query, (v) => Math.round(v * steps));
    return placedScan(whole, size, { kernel: 'int8', extra: 1 / steps }, plain);
  },
};

export const int4: Codec = {
  about: 'whole numbers from -7 to 7, two a byte, with a scale a vector',
  bytes: (dimensions) => Math.ceil(dimensions / 2) + 4,
  learn: () => ({}),
  encode: (vectors) =>
    wholeNumbers(vectors, int4.bytes(vectors.dimensions), (row, into) => {
      const scale = scaleOf(row, 7);
      for (let k = 0; k < row.length; k++) into[k >> 1] |= (Math.round(row[k] / scale) + 8) << (4 * (k & 1));
      return scale;
    }),
  scorer: (query) => {
    // Of every byte the sum of its two products: one look-up in place of two.
    const half = Math.ceil(query.length / 2);
    const sums = new Float32Array(half * 256);
    for (let j = 0; j < half; j++)
      for (let byte = 0; byte < 256; byte++)
        sums[j * 256 + byte] = query[2 * j] * ((byte & 15) - 8) + (query[2 * j + 1] ?? 0) * ((byte >> 4) - 8);
    return (codes, from, to, out) => {
      const size = half + 4;
      const view = new DataView(codes.buffer, codes.byteOffset, codes.byteLength);
      for (let i = from; i < to; i++) {
        let s = 0;
        for (let j = 0, at = i * size + 4; j < half; j++) s += sums[j * 256 + codes[at + j]];
        out[i - from] = s * view.getFloat32(i * size, true);
      }
    };
  },
};
