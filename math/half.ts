/** @file Half precision (IEEE 754 binary16) as bits. */

/** The largest finite half. */
export const LARGEST_HALF = 65504;
const scratch = new DataView(new ArrayBuffer(4));

/** The half-precision bits nearest to a number, ties to even; larger numbers are clamped to the largest half. */
export function floatToHalf(value: number): number {
  if (Number.isNaN(value)) return 0x7e00;
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.min(Math.abs(value), LARGEST_HALF);
  if (size < 2 ** -14) return sign | roundEven(size / 2 ** -24);
  scratch.setFloat32(0, size);
  const exponent = (scratch.getUint32(0) >>> 23) - 127;
  // A fraction that rounds up to 1024 carries into the exponent by itself.
  return sign | (((exponent + 15) << 10) + roundEven((size / 2 ** exponent - 1) * 1024));
}

/** The number of half-precision bits. */
export function halfToFloat(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}

function roundEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

let table: Float32Array | undefined;

/** Lookup table of the value of every bit pattern: 256 KB, made on first use. */
export function halfTable(): Float32Array {
  table ??= Float32Array.from({ length: 1 << 16 }, (_, bits) => halfToFloat(bits));
  return table;
}
