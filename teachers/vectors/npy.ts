/** @file NumPy's array files. @source https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
import { readFile } from 'node:fs/promises';
import { explainedSystem, InputError, shown } from '../../common/errors.ts';
import { halfToFloat } from '../../math/half.ts';

/** A table of numbers, [rows, columns] row-major. */
export interface Matrix {
  rows: number;
  columns: number;
  data: Float32Array;
}

const readers: Readonly<Record<string, [bytes: number, read: (view: DataView, at: number) => number]>> = {
  '<f4': [4, (v, at) => v.getFloat32(at, true)],
  '>f4': [4, (v, at) => v.getFloat32(at, false)],
  '<f8': [8, (v, at) => v.getFloat64(at, true)],
  '>f8': [8, (v, at) => v.getFloat64(at, false)],
  '<f2': [2, (v, at) => halfToFloat(v.getUint16(at, true))],
  '>f2': [2, (v, at) => halfToFloat(v.getUint16(at, false))],
  '|i1': [1, (v, at) => v.getInt8(at)],
};

/** @throws InputError where it is not an array of two dimensions in a kind of number that vectors have */
export async function readNpy(file: string): Promise<Matrix> {
  const bytes = await readFile(file).catch((error) => {
    throw explainedSystem(error, 'read the vectors');
  });
  const bad = (why: string, remedy = 'write it with numpy.save as a float32 array [documents, dimensions]'): never => {
    throw new InputError({ code: 'vectors.malformed', subject: `${file} ${why}`, remedy });
  };
  if (bytes.length < 12 || bytes.toString('latin1', 0, 6) !== '\x93NUMPY') return bad('is not a .npy file');
  const [major] = [bytes[6]];
  const long = major >= 2;
  const from = long ? 12 : 10;
  const length = long ? bytes.readUInt32LE(8) : bytes.readUInt16LE(8);
  if (major > 3 || from + length > bytes.length) return bad('has a header that is cut short or of a newer version');
  const header = bytes.toString('latin1', from, from + length);
  const descr = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const shape = /'shape':\s*\(([^)]*)\)/
    .exec(header)?.[1]
    .split(',')
    .filter((s) => s.trim())
    .map(Number);
  if (!descr || !Object.hasOwn(readers, descr))
    return bad(
      `holds numbers of the kind '${shown(descr ?? header.slice(0, 40))}', not float16, float32, float64 or int8`,
    );
  if (!/'fortran_order':\s*False/.test(header)) return bad('is in Fortran order', 'save numpy.ascontiguousarray of it');
  if (shape?.length !== 2 || !shape.every((n) => Number.isSafeInteger(n) && n >= 0))
    return bad(`has the shape (${shown(String(shape))}), not [documents, dimensions]`);
  const [rows, columns] = shape;
  const [size, read] = readers[descr];
  if (rows * columns * size !== bytes.length - from - length)
    return bad(`claims ${rows} x ${columns} numbers of ${size} bytes and holds ${bytes.length - from - length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset + from + length);
  const data = new Float32Array(rows * columns);
  for (let i = 0; i < data.length; i++) data[i] = read(view, i * size);
  return { rows, columns, data };
}
