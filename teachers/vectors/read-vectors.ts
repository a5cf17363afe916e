/** @file Reads vectors with the ids of their texts, from files that other tools write. */
import { isUtf8 } from 'node:buffer';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { explainedSystem, InputError, shown } from '../../common/errors.ts';
import { readRows } from '../../data/files/rows.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { readSafetensors } from '../../engine/io/safetensors.ts';
import { halfToFloat } from '../../math/half.ts';
import { type Matrix, readNpy } from './npy.ts';

export interface IdVectors extends Matrix {
  /** Absent where no file says them. */
  ids?: string[];
  /** Where the ids were found. */
  from: string;
}

const ENDINGS = ['.npy', '.safetensors', '.parquet', '.jsonl', '.jsonl.gz', '.ndjson'];
const ID_COLUMNS = ['_id', 'id', 'doc_id', 'docid', 'document_id', 'corpus-id', 'corpus_id', 'query_id', 'query-id'];
const VECTOR_COLUMNS = ['embedding', 'vector', 'embeddings', 'values', 'dense', 'emb'];

/** Whether a path names a file of vectors by its ending. */
export const isVectorFile = (path: string): boolean => ENDINGS.some((e) => path.toLowerCase().endsWith(e));

/**
 * @param ids a file of ids in the order of the vectors: a line each, or JSON; found next to the vectors by default
 * @throws InputError that names file and row where vectors or ids cannot be read
 */
export async function readVectors(file: string, ids?: string): Promise<IdVectors> {
  if (!existsSync(file))
    throw new InputError({
      code: 'vectors.missing',
      subject: `there is no file of vectors ${file}`,
      remedy: `name files that end in ${ENDINGS.join(', ')}`,
    });
  const lower = file.toLowerCase();
  if (lower.endsWith('.npy')) return { ...(await readNpy(file)), ...(await idsFor(file, ids)) };
  if (lower.endsWith('.safetensors'))
    return { ...matrixOf(await readSafetensors(file), file), ...(await idsFor(file, ids)) };
  if (isVectorFile(file)) return readRecords(file);
  throw new InputError({
    code: 'vectors.format',
    subject: `${file} is not a known file of vectors`,
    expected: `a name that ends in ${ENDINGS.join(', ')}`,
    remedy: 'write the vectors to one of these, e.g. with numpy.save',
  });
}

function matrixOf(tensors: ReadonlyMap<string, Tensor>, file: string): Matrix {
  const tables = [...tensors].filter(([, t]) => t.dims.length === 2);
  const named = tables.filter(([name]) => VECTOR_COLUMNS.includes(name));
  const [name, tensor] = (named.length ? named : tables)[0] ?? [];
  if (!tensor || (named.length || tables.length) > 1)
    throw new InputError({
      code: 'vectors.malformed',
      subject: `${shown(file)} holds ${tables.length} tables (${shown([...tensors.keys()].slice(0, 8).join(', '))})`,
      expected: `one table [documents, dimensions], or one of them named ${VECTOR_COLUMNS.slice(0, 3).join(', ')}`,
    });
  const { dtype, dims, data } = tensor;
  if (!['float16', 'bfloat16', 'float32', 'float64', 'int8'].includes(dtype))
    throw new InputError({
      code: 'vectors.malformed',
      subject: `'${shown(String(name))}' of ${file} holds ${dtype}`,
      expected: 'float16, bfloat16, float32, float64 or int8',
    });
  const out = new Float32Array(dims[0] * dims[1]);
  const bits = new DataView(new ArrayBuffer(4));
  for (let i = 0; i < out.length; i++) {
    const x = Number(data[i]);
    if (dtype === 'bfloat16') bits.setUint32(0, x << 16);
    out[i] = dtype === 'float16' ? halfToFloat(x) : dtype === 'bfloat16' ? bits.getFloat32(0) : x;
  }
  return { rows: dims[0], columns: dims[1], data: out };
}

async function readRecords(file: string): Promise<IdVectors> {
  const ids: string[] = [];
  const rows: Float32Array[] = [];
  let names: { id: string; vector: string } | undefined;
  for await (const { values, where } of readRows(file)) {
    names ??= columnsOf(values, file);
    const id = values[names.id];
    const vector = values[names.vector];
    const list = ArrayBuffer.isView(vector) || Array.isArray(vector) ? Array.from(vector as ArrayLike<unknown>) : [];
    const bad = (subject: string, expected: string): InputError =>
      new InputError({ code: 'vectors.malformed', subject: `${where}: ${subject}`, expected, remedy: 'fix it' });
    if (!['string', 'number', 'bigint'].includes(typeof id) || (typeof id === 'number' && !Number.isSafeInteger(id)))
      throw bad(`'${names.id}'`, 'an id: text, or a whole number below 2^53');
    if (!list.length || !list.every((x) => typeof x === 'number')) throw bad(`'${names.vector}'`, 'a list of numbers');
    if (rows.length && list.length !== rows[0].length)
      throw bad(`'${names.vector}' has ${list.length} components`, `${rows[0].length}, as the first`);
    ids.push(String(id));
    rows.push(Float32Array.from(list as number[]));
  }
  const columns = rows[0]?.length ?? 0;
  const data = new Float32Array(rows.length * columns);
  for (const [i, row] of rows.entries()) data.set(row, i * columns);
  return { rows: rows.length, columns, data, ids, from: file };
}

function columnsOf(values: Readonly<Record<string, unknown>>, file: string): { id: string; vector: string } {
  const id = ID_COLUMNS.find((c) => c in values);
  const vector = VECTOR_COLUMNS.find((c) => c in values);
  if (id && vector) return { id, vector };
  throw new InputError({
    code: 'vectors.columns',
    subject: `${file} has the columns ${shown(Object.keys(values).slice(0, 12).join(', '))}`,
    expected: `an id (${ID_COLUMNS.join(', ')}) and a vector (${VECTOR_COLUMNS.join(', ')})`,
    remedy: 'rename them',
  });
}

/** NAME.ids.txt, NAME.ids.json, ids.txt, ids.json: as tools write them next to an array. */
async function idsFor(file: string, given?: string): Promise<{ ids?: string[]; from: string }> {
  const name = file.replace(/\.[^.]+$/, '');
  const named = [`${name}.ids.txt`, `${name}.ids.json`, `${name}.ids`];
  const common = ['ids.txt', 'ids.json', 'ids'].map((n) => join(dirname(file), n));
  const from = given ?? [...named, ...common].find(existsSync);
  if (from === undefined) return { from: file };
  const bytes = await readFile(from).catch((error) => {
    throw explainedSystem(error, 'read the ids of the vectors');
  });
  if (!isUtf8(bytes))
    throw new InputError({ code: 'vectors.ids', subject: `${from} is not UTF-8`, remedy: 'save it as UTF-8' });
  const text = bytes.toString('utf8').replace(/^\ufeff/, '');
  if (!/^\s*\[/.test(text)) {
    const lines = text.split(/\r?\n/);
    if (lines.at(-1) === '') lines.pop();
    return { ids: lines, from };
  }
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {}
  if (!Array.isArray(list) || !list.every((x) => typeof x === 'string' || Number.isSafeInteger(x)))
    throw new InputError({
      code: 'vectors.ids',
      subject: from,
      expected: 'a JSON list of ids (texts, or whole numbers below 2^53), or an id a line',
      remedy: 'write it again',
    });
  return { ids: list.map(String), from };
}
