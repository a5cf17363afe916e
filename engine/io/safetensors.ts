/** @file Weights as safetensors: a length, a JSON header, the arrays. */
import { readFile } from 'node:fs/promises';
import { InputError } from '../../common/errors.ts';
import { arrayTypes, type DType, sizeOf, type Tensor, type TypedArray } from '../graph/tensor.ts';

const types: Readonly<Record<string, DType>> = {
  F64: 'float64', F32: 'float32', F16: 'float16', BF16: 'bfloat16', I64: 'int64', I32: 'int32', I16: 'int16', I8: 'int8',
  U64: 'uint64', U32: 'uint32', U16: 'uint16', U8: 'uint8', BOOL: 'bool',
}; // biome-ignore format: a table
const codes = new Map(Object.entries(types).map(([code, dtype]) => [dtype, code]));

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/**
 * Reads all tensors of a safetensors file by name.
 * @throws InputError if the file is truncated or its header contradicts its bytes
 */
export async function readSafetensors(file: string): Promise<Map<string, Tensor>> {
  return parseSafetensors(await readFile(file), file);
}

/** Reads the bytes of a safetensors file. @throws InputError if they are truncated or an element type is not known */
export function parseSafetensors(bytes: Uint8Array, file = 'the file'): Map<string, Tensor> {
  const bad = (why: string): InputError =>
    new InputError({
      code: 'safetensors.malformed',
      subject: `${file}: ${why}`,
      remedy: 'write or download the file again',
    });
  if (bytes.length < 8) throw bad('it is shorter than a safetensors header');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  if (length > bytes.length - 8) throw bad(`its header claims ${length} bytes and the file has ${bytes.length}`);
  let header: Record<string, Entry>;
  try {
    header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  } catch {
    throw bad('its header is not JSON');
  }
  if (!header || typeof header !== 'object' || Array.isArray(header)) throw bad('its header is not a JSON object');
  const body = bytes.subarray(8 + length);
  const tensors = new Map<string, Tensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const dtype = Object.hasOwn(types, entry?.dtype) ? types[entry.dtype] : undefined;
    const [from, to] = Array.isArray(entry?.data_offsets) ? entry.data_offsets : [-1, -1];
    const dims = entry?.shape;
    if (!dtype || !Array.isArray(dims) || !dims.every((d) => Number.isSafeInteger(d) && d >= 0))
      throw bad(`tensor '${name}' has no known type or shape`);
    const size = sizeOf(dims);
    const byteLength = size * arrayTypes[dtype].BYTES_PER_ELEMENT;
    if (!(from >= 0) || to - from !== byteLength || to > body.length)
      throw bad(`tensor '${name}' claims bytes ${from} to ${to} of ${body.length}`);
    const data = new arrayTypes[dtype](size) as TypedArray;
    new Uint8Array(data.buffer).set(body.subarray(from, to));
    tensors.set(name, { dtype, dims, data });
  }
  return tensors;
}

/** The same tensors in the same order give the same bytes. */
export function encodeSafetensors(tensors: ReadonlyMap<string, Tensor>, metadata?: Record<string, string>): Uint8Array {
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {};
  let offset = 0;
  for (const [name, t] of tensors) {
    header[name] = { dtype: codes.get(t.dtype), shape: t.dims, data_offsets: [offset, offset + t.data.byteLength] };
    offset += t.data.byteLength;
  }
  const text = JSON.stringify(header);
  const json = new TextEncoder().encode(text + ' '.repeat((8 - (new TextEncoder().encode(text).length % 8)) % 8));
  const bytes = new Uint8Array(8 + json.length + offset);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  offset = 8 + json.length;
  for (const t of tensors.values()) {
    bytes.set(new Uint8Array(t.data.buffer, t.data.byteOffset, t.data.byteLength), offset);
    offset += t.data.byteLength;
  }
  return bytes;
}
