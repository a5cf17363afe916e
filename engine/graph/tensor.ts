/** @file Constant tensors: a type, a shape and a typed array. */

import { InputError } from '../../common/errors.ts';
import { floatToHalf, halfTable } from '../../math/half.ts';

/** ONNX element types that the engine supports, with their typed arrays. */
export interface TypedArrays {
  float32: Float32Array;
  float64: Float64Array;
  float16: Uint16Array;
  bfloat16: Uint16Array;
  int64: BigInt64Array;
  int32: Int32Array;
  int16: Int16Array;
  int8: Int8Array;
  uint64: BigUint64Array;
  uint32: Uint32Array;
  uint16: Uint16Array;
  uint8: Uint8Array;
  bool: Uint8Array;
}
/** Element types, by the names of ONNX Runtime. */
export type DType = keyof TypedArrays;
export type TypedArray = TypedArrays[DType];

export const arrayTypes: { [T in DType]: { new (n: number): TypedArrays[T]; BYTES_PER_ELEMENT: number } } = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  int64: BigInt64Array,
  int32: Int32Array,
  int16: Int16Array,
  int8: Int8Array,
  uint64: BigUint64Array,
  uint32: Uint32Array,
  uint16: Uint16Array,
  uint8: Uint8Array,
  bool: Uint8Array,
};

/** An array with its element type and shape, row-major; int64 is held in BigInt64Array, float16 in Uint16Array. */
export interface Tensor<T extends DType = DType> {
  readonly dtype: T;
  readonly dims: readonly number[];
  readonly data: TypedArrays[T];
}

export const sizeOf = (dims: readonly number[]): number => dims.reduce((n, d) => n * d, 1);

/** A tensor from plain numbers; a scalar where `dims` is empty. */
export function tensor<T extends DType>(
  dtype: T,
  dims: readonly number[],
  values: ArrayLike<number | bigint>,
): Tensor<T> {
  const data = new arrayTypes[dtype](values.length) as TypedArray;
  if (values.length !== sizeOf(dims))
    throw new InputError({
      code: 'tensor.size',
      subject: `tensor of shape [${dims}]`,
      expected: `${sizeOf(dims)} values`,
      received: `${values.length}`,
    });
  for (let i = 0; i < values.length; i++)
    data[i] = (
      data instanceof BigInt64Array || data instanceof BigUint64Array ? BigInt(values[i]) : Number(values[i])
    ) as never;
  return { dtype, dims: [...dims], data: data as TypedArrays[T] };
}

/** Plain numbers as a tensor of one dimension. */
export const vectorOf = (data: Float32Array | Float64Array | Int32Array): Tensor => ({
  dtype: data instanceof Float32Array ? 'float32' : data instanceof Int32Array ? 'int32' : 'float64',
  dims: [data.length],
  data,
});

/** Ones on the diagonal, zeros elsewhere: [from, to]. */
export function identity(from: number, to = from): Tensor<'float32'> {
  const data = new Float32Array(from * to);
  for (let i = 0; i < Math.min(from, to); i++) data[i * to + i] = 1;
  return { dtype: 'float32', dims: [from, to], data };
}

export const isFloat = (dtype: DType | undefined): boolean =>
  dtype === 'float32' || dtype === 'float64' || dtype === 'float16' || dtype === 'bfloat16';

const scratch = new DataView(new ArrayBuffer(4));

/** Converts a tensor of any numeric type to float32 or float64. */
export function castFloat<T extends 'float32' | 'float64'>(source: Tensor, dtype: T): Tensor<T> {
  if (source.dtype === dtype) return source as unknown as Tensor<T>;
  const data = new arrayTypes[dtype](source.data.length) as Float32Array | Float64Array;
  if (source.dtype === 'float16') {
    const halves = halfTable();
    for (let i = 0; i < data.length; i++) data[i] = halves[source.data[i] as number];
  } else if (source.dtype === 'bfloat16')
    for (let i = 0; i < data.length; i++) {
      scratch.setUint32(0, (source.data[i] as number) << 16);
      data[i] = scratch.getFloat32(0);
    }
  else for (let i = 0; i < data.length; i++) data[i] = Number(source.data[i]);
  return { dtype, dims: source.dims, data: data as unknown as TypedArrays[T] };
}

/** Converts a tensor of floats to half precision. @param most what larger numbers become */
export function castHalf(source: Tensor, dtype: 'float16' | 'bfloat16', most: number): Tensor {
  const { dims, data: floats } = castFloat(source, 'float32');
  const bits = (x: number): number => {
    const value = Math.max(-most, Math.min(most, x));
    if (dtype === 'float16') return floatToHalf(value);
    scratch.setFloat32(0, value);
    const whole = scratch.getUint32(0);
    // To the nearest of the upper 16 bits, ties to even.
    return Number.isNaN(x) ? 0x7fc0 : ((whole + 0x7fff + ((whole >>> 16) & 1)) >>> 16) & 0xffff;
  };
  return { dtype, dims, data: Uint16Array.from(floats, bits) };
}

/** A model's output as float32: halves and doubles are converted, float32 is not copied. */
export const floatsOf = (source: Tensor): Float32Array => castFloat(source, 'float32').data;
