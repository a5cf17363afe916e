/** @file Tensors stored in the model file or in external data files. Sizes that a file claims are checked against its bytes. */
import { readFile, realpath, stat } from 'node:fs/promises';
import { dirname, isAbsolute, join, relative } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { TensorProto_DataType as Onnx, type TensorProto, TensorProto_DataLocation, TensorProtoSchema } from 'onnx-buf';
import { InputError } from '../../common/errors.ts';
import { arrayTypes, type DType, sizeOf, type Tensor, type TypedArray } from '../graph/tensor.ts';

export const dtypeOf = new Map<number, DType>([
  [Onnx.FLOAT, 'float32'],
  [Onnx.DOUBLE, 'float64'],
  [Onnx.FLOAT16, 'float16'],
  [Onnx.BFLOAT16, 'bfloat16'],
  [Onnx.INT64, 'int64'],
  [Onnx.INT32, 'int32'],
  [Onnx.INT16, 'int16'],
  [Onnx.INT8, 'int8'],
  [Onnx.UINT64, 'uint64'],
  [Onnx.UINT32, 'uint32'],
  [Onnx.UINT16, 'uint16'],
  [Onnx.UINT8, 'uint8'],
  [Onnx.BOOL, 'bool'],
]);
const codeOf = new Map([...dtypeOf].map(([code, dtype]) => [dtype, code]));
/** ONNX's number for an element type, as the attribute `to` of Cast takes it. */
export const onnxType = (dtype: DType): number => codeOf.get(dtype) as number;
/** The element type of ONNX's number. */
export const fromOnnxType = (code: number): DType | undefined => dtypeOf.get(code);

/** Bytes of external data files, by the name in the model. */
export type ExternalData = ReadonlyMap<string, Uint8Array>;

export interface Source {
  file: string;
  external: ExternalData;
}

const entry = (t: TensorProto, key: string): string | undefined => t.externalData.find((e) => e.key === key)?.value;

export const externalLocation = (t: TensorProto): string | undefined =>
  t.dataLocation === TensorProto_DataLocation.EXTERNAL ? (entry(t, 'location') ?? '') : undefined;

/**
 * The path of an external data file that a model names. It must be in or below the model's folder, links resolved; in a snapshot
 * of Hugging Face's cache, whose files are links, anywhere in the same repository of that cache.
 * @throws InputError if it is elsewhere or not a file
 */
export async function externalPath(file: string, location: string): Promise<string> {
  const refuse = (why: string, remedy: string): never => {
    throw new InputError({
      code: 'onnx.external-data',
      subject: `${file} keeps weights in '${location}', ${why}`,
      remedy,
    });
  };
  const away = (): never =>
    refuse('which leads outside its folder', 'use a model whose data is in the folder of the model');
  const folder = dirname(file);
  if (!location || outside(location) || outside(relative(folder, join(folder, location)))) away();
  const path = join(folder, location);
  try {
    const real = await realpath(path);
    const allowed = await realpath(folder);
    if (outside(relative(allowed, real)) && outside(relative(cacheRepository(allowed) ?? allowed, real))) away();
    if (!(await stat(path)).isFile()) refuse('which is not a file', 'put the data file into the folder of the model');
    return path;
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    return refuse(
      `which cannot be read (${(cause as NodeJS.ErrnoException).code})`,
      'put the data file into the folder of the model',
    );
  }
}

const outside = (path: string): boolean =>
  path === '..' || path.startsWith('../') || path.startsWith('..\\') || isAbsolute(path);

/** The folder of a repository in Hugging Face's cache, `models--ORG--NAME`, of a folder in one of its snapshots. */
function cacheRepository(folder: string): string | undefined {
  const found = /^(.*[\\/]models--[^\\/]+)[\\/]snapshots[\\/]/.exec(`${folder}/`);
  return found?.[1];
}

/** The bytes of an external data file. @throws InputError as externalPath, and if it is over 2 GiB */
export async function readExternal(file: string, location: string): Promise<Uint8Array> {
  const path = await externalPath(file, location);
  try {
    return await readFile(path);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const large = code === 'ERR_FS_FILE_TOO_LARGE';
    throw new InputError({
      code: 'onnx.external-data',
      subject: `${file} keeps weights in '${location}', which ${large ? 'has more than 2 GiB' : `cannot be read (${code})`}`,
      remedy: large
        ? 'use it as teacher or embedder, which ONNX Runtime reads by its path; what is trained or changed has at most 2 GiB'
        : 'put the data file into the folder of the model',
      cause,
    });
  }
}

export function tensorOf(t: TensorProto, source: Source, what: string): Tensor {
  const bad = (why: string): InputError =>
    new InputError({
      code: 'onnx.tensor',
      subject: `${source.file}: ${what} ${why}`,
      remedy: 'export or download the file again',
    });
  const dtype = dtypeOf.get(t.dataType);
  if (!dtype) throw bad(`has element type ${Onnx[t.dataType] ?? t.dataType}, which is not read`);
  const dims = t.dims.map(Number);
  const size = sizeOf(dims);
  if (dims.some((d) => d < 0) || !Number.isSafeInteger(size)) throw bad(`has the impossible shape [${dims}]`);
  const Type = arrayTypes[dtype];
  const bytes = size * Type.BYTES_PER_ELEMENT;
  let raw = t.rawData;
  const location = externalLocation(t);
  if (location !== undefined) {
    const file = source.external.get(location);
    const offset = Number(entry(t, 'offset') ?? 0);
    const length = Number(entry(t, 'length') ?? bytes);
    if (!file) throw bad(`keeps its data in '${location}', which was not given`);
    if (!(offset >= 0) || !(length === bytes) || offset + bytes > file.length)
      throw bad(`claims ${bytes} bytes at ${offset} of '${location}', which has ${file.length}`);
    raw = file.subarray(offset, offset + bytes) as typeof raw;
  }
  if (raw.length || size === 0 || location !== undefined) {
    if (raw.length !== bytes) throw bad(`of shape [${dims}] needs ${bytes} bytes and has ${raw.length}`);
    const data = new Type(size) as TypedArray; // a copy: the file's bytes need not be aligned
    new Uint8Array(data.buffer).set(raw);
    return { dtype, dims, data };
  }
  const listed =
    dtype === 'float32'
      ? t.floatData
      : dtype === 'float64'
        ? t.doubleData
        : dtype === 'int64'
          ? t.int64Data
          : dtype === 'uint64' || dtype === 'uint32'
            ? t.uint64Data
            : t.int32Data;
  if (listed.length !== size) throw bad(`of shape [${dims}] needs ${size} values and has ${listed.length}`);
  const data = new Type(size) as TypedArray;
  const big = dtype === 'int64' || dtype === 'uint64';
  for (let i = 0; i < size; i++) data[i] = (big ? BigInt(listed[i]) : Number(listed[i])) as never;
  return { dtype, dims, data };
}

export function tensorProto(t: Tensor, name = ''): TensorProto {
  return create(TensorProtoSchema, {
    name,
    dims: t.dims.map(BigInt),
    dataType: onnxType(t.dtype),
    rawData: new Uint8Array(t.data.buffer as ArrayBuffer, t.data.byteOffset, t.data.byteLength),
  });
}
