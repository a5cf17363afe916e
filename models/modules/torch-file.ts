/** @file Tensors of a file that torch.save wrote: a zip of a pickle and raw arrays. Nothing in the pickle is executed. */
import { readFile } from 'node:fs/promises';
import { InputError } from '../../common/errors.ts';
import { arrayTypes, type DType, sizeOf, type Tensor, type TypedArray } from '../../engine/graph/tensor.ts';

/** Classes of storages, by the type of their numbers. */
const storages: Readonly<Record<string, DType>> = {
  FloatStorage: 'float32',
  DoubleStorage: 'float64',
  HalfStorage: 'float16',
  BFloat16Storage: 'bfloat16',
  LongStorage: 'int64',
  IntStorage: 'int32',
};

/** @throws InputError where it is another format, or holds anything but a dictionary of tensors */
export async function readTorchFile(file: string): Promise<Map<string, Tensor>> {
  const bytes = await readFile(file);
  try {
    const entries = storedEntries(bytes);
    const [name] = [...entries.keys()].filter((n) => n.endsWith('/data.pkl'));
    const pickle = name && entries.get(name);
    if (!pickle) throw new Error('it is not the format that torch.save writes since PyTorch 1.6');
    const folder = name.slice(0, -'data.pkl'.length);
    const order = entries.get(`${folder}byteorder`);
    if (order && new TextDecoder().decode(order) !== 'little') throw new Error('its numbers are big-endian');
    return tensorsOf(unpickle(pickle), (key) => entries.get(`${folder}data/${key}`));
  } catch (cause) {
    throw new InputError({
      code: 'torch.malformed',
      subject: `${file} cannot be read (${(cause as Error).message})`,
      remedy: 'save these weights as model.safetensors (model.save_pretrained with sentence-transformers does)',
      cause,
    });
  }
}

/** The files of a zip archive whose entries are stored as they are, by name. */
function storedEntries(bytes: Uint8Array): Map<string, Uint8Array> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let end = bytes.length - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error('it is not a zip archive');
  const count = view.getUint16(end + 10, true);
  let at = view.getUint32(end + 16, true);
  if (count === 0xffff || at === 0xffffffff) throw new Error('it is a zip64 archive');
  const found = new Map<string, Uint8Array>();
  for (let i = 0; i < count; i++) {
    if (view.getUint32(at, true) !== 0x02014b50) throw new Error('its directory is damaged');
    const [nameLength, extra, comment] = [28, 30, 32].map((o) => view.getUint16(at + o, true));
    const size = view.getUint32(at + 24, true);
    const local = view.getUint32(at + 42, true);
    const name = new TextDecoder().decode(bytes.subarray(at + 46, at + 46 + nameLength));
    if (view.getUint16(at + 10, true) !== 0) throw new Error(`'${name}' in it is compressed`);
    const data = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    if (data + size > bytes.length) throw new Error('it is cut short');
    found.set(name, bytes.subarray(data, data + size));
    at += 46 + nameLength + extra + comment;
  }
  return found;
}

/** A class or function that a pickle names: looked at, never called. */
class Global {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}
/** A pickle's reference to a storage in the same archive. */
class Stored {
  readonly args: unknown[];
  constructor(args: unknown[]) {
    this.args = args;
  }
}
/** A call that the pickle asks for. */
class Call {
  readonly of: unknown;
  readonly args: unknown[];
  constructor(of: unknown, args: unknown[]) {
    this.of = of;
    this.args = args;
  }
}

const MARK = Symbol('mark');

/** The few instructions that a dictionary of tensors takes. @throws Error at any other */
function unpickle(bytes: Uint8Array): unknown {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const text = (from: number, to: number): string => new TextDecoder().decode(bytes.subarray(from, to));
  const stack: unknown[] = [];
  const memo = new Map<number, unknown>();
  const sinceMark = (): unknown[] => stack.splice(stack.lastIndexOf(MARK)).slice(1);
  const setItems = (items: unknown[]): void => {
    const target = stack.at(-1);
    const map = target instanceof Map ? target : undefined;
    for (let i = 0; i + 1 < items.length; i += 2) map?.set(items[i], items[i + 1]);
  };
  let at = 0;
  const line = (): string => {
    const end = bytes.indexOf(10, at);
    const value = text(at, end);
    at = end + 1;
    return value;
  };
  while (at < bytes.length) {
    const code = String.fromCharCode(bytes[at++]);
    if (code === '.') return stack.pop();
    if (code === '\x80') at += 1;
    else if (code === '}') stack.push(new Map());
    else if (code === ')') stack.push([]);
    else if (code === '(') stack.push(MARK);
    else if (code === 'N') stack.push(null);
    else if (code === '\x88' || code === '\x89') stack.push(code === '\x88');
    else if (code === 'q') memo.set(bytes[at++], stack.at(-1));
    else if (code === 'r') {
      memo.set(view.getUint32(at, true), stack.at(-1));
      at += 4;
    } else if (code === 'h') stack.push(memo.get(bytes[at++]));
    else if (code === 'j') {
      stack.push(memo.get(view.getUint32(at, true)));
      at += 4;
    } else if (code === 'K') stack.push(bytes[at++]);
    else if (code === 'M') {
      stack.push(view.getUint16(at, true));
      at += 2;
    } else if (code === 'J') {
      stack.push(view.getInt32(at, true));
      at += 4;
    } else if (code === 'X') {
      const length = view.getUint32(at, true);
      stack.push(text(at + 4, at + 4 + length));
      at += 4 + length;
    } else if (code === 'c') stack.push(new Global(`${line()}.${line()}`));
    else if (code === 'Q') stack.push(new Stored(stack.pop() as unknown[]));
    else if (code === 't') stack.push(sinceMark());
    else if (code === '\x85') stack.push(stack.splice(-1));
    else if (code === '\x86') stack.push(stack.splice(-2));
    else if (code === '\x87') stack.push(stack.splice(-3));
    else if (code === 'R') {
      const [of, args] = stack.splice(-2) as [unknown, unknown[]];
      const empty = of instanceof Global && of.name === 'collections.OrderedDict';
      stack.push(empty ? new Map() : new Call(of, args));
    } else if (code === 's') setItems(stack.splice(-2));
    else if (code === 'u') setItems(sinceMark());
    // The state of the dictionary itself (`_metadata`) says nothing of weights.
    else if (code === 'b') stack.pop();
    else throw new Error(`instruction 0x${code.charCodeAt(0).toString(16)} of its pickle is not known`);
  }
  throw new Error('its pickle does not end');
}

function tensorsOf(value: unknown, stored: (key: string) => Uint8Array | undefined): Map<string, Tensor> {
  if (!(value instanceof Map)) throw new Error('it holds no dictionary');
  const found = new Map<string, Tensor>();
  for (const [name, entry] of value) {
    const call = entry instanceof Call ? entry : undefined;
    if (!(call?.of instanceof Global) || call.of.name !== 'torch._utils._rebuild_tensor_v2')
      throw new Error(`'${String(name)}' is not a plain tensor`);
    const [storage, offset, dims, strides] = call.args as [Stored, number, number[], number[]];
    const [, type, key] = storage.args as [string, Global, string];
    const dtype = storages[type.name.split('.').at(-1) ?? ''];
    if (!dtype) throw new Error(`'${String(name)}' has numbers of the type ${type.name}`);
    const size = sizeOf(dims);
    const rowMajor = dims.map((_, i) => sizeOf(dims.slice(i + 1)));
    if (dims.some((d, i) => d > 1 && strides[i] !== rowMajor[i]))
      throw new Error(`'${String(name)}' is not contiguous`);
    const bytes = stored(key);
    const width = arrayTypes[dtype].BYTES_PER_ELEMENT;
    if (!bytes || (offset + size) * width > bytes.length)
      throw new Error(`the numbers of '${String(name)}' are missing`);
    const data = new arrayTypes[dtype](size) as TypedArray;
    new Uint8Array(data.buffer).set(bytes.subarray(offset * width, (offset + size) * width));
    found.set(String(name), { dtype, dims, data } as Tensor);
  }
  return found;
}
