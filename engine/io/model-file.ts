/** @file An ONNX file for inference only: its inputs and outputs are read, and ONNX Runtime loads the file unchanged. */
import { createHash } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { create, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProtoSchema,
  type GraphProto,
  AttributeProto_AttributeType as Kind,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  TensorProto_DataType as Onnx,
  type ValueInfoProto,
} from 'onnx-buf';
import { hashFile, hashParts } from '../../common/files.ts';
import { arrayTypes, type DType, sizeOf } from '../graph/tensor.ts';
import { decode, readModel, tensorsOf } from './onnx-file.ts';
import { dtypeOf, externalLocation, externalPath } from './tensor-proto.ts';

/** An input or output as declared in the file. */
export interface Port {
  name: string;
  /** The engine's type name; for other types ONNX's name. */
  dtype: string;
  /** A number where the file fixes it, otherwise a name or undefined; absent where the file declares no shape. */
  dims: readonly (number | string)[] | undefined;
  /** For inputs: whether a node reads it. */
  read?: boolean;
}

/** The activation before an output that turns logits into probabilities. */
export type LastActivation = 'Sigmoid' | 'Softmax';

export interface ModelFile {
  readonly file: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** Rows and columns of the token embedding table, and the largest width of the weights; absent where not found. */
  readonly table: { rows: number; hidden: number; widest: number } | undefined;
  /** Shapes of the graph's weights, by name. */
  readonly weights: ReadonlyMap<string, readonly number[]>;
  /** Number of weights. */
  readonly parameters: number;
  /** The activation that computes an output, where the graph shows one. */
  activation(output: string): LastActivation | undefined;
  /** The file unchanged, or changed to a single float32 output, read before its activation. */
  source(change?: { output: string; beforeActivation?: boolean; float?: boolean }): Promise<ModelSource>;
}

/** The input of ONNX Runtime: a file's path, or the bytes of a changed model with the files that hold its weights. */
export type ModelSource = { path: string } | ChangedSource;

export interface ChangedSource {
  bytes: Uint8Array;
  /** Folder of its external weights. */
  folder?: string;
  /** External weight files by the name in the model, where they are in several folders. */
  data?: readonly { path: string; file: string }[];
}

/** Operators that change the form of an output but not its values. */
const forms = new Set(['Identity', 'Cast', 'Squeeze', 'Unsqueeze', 'Reshape', 'Flatten']);

/**
 * Reads the inputs and outputs of an ONNX file and checks the location of its weights. Operators are not checked: ONNX Runtime
 * refuses those that it lacks.
 * @throws InputError where the file cannot be read, is not ONNX, or names data outside its folder
 */
export async function readModelFile(file: string): Promise<ModelFile> {
  const model = decode(await readModel(file), file);
  const graph = model.graph as GraphProto;
  for (const location of locationsOf(model)) await externalPath(file, location);
  const weights = new Map(graph.initializer.map((t) => [t.name, t.dims.map(Number)]));
  const read = namesRead(graph, new Set());
  return {
    file,
    weights,
    inputs: graph.input.filter((i) => !weights.has(i.name)).map((i) => ({ ...portOf(i), read: read.has(i.name) })),
    outputs: graph.output.map(portOf),
    table: tableOf(graph),
    parameters: [...tensorsOf(model)].reduce((n, { dims }) => n + (dims.length ? sizeOf(dims.map(Number)) : 0), 0),
    activation: (output) => lastActivation(graph, output)?.opType as LastActivation | undefined,
    source: async (change) => (change ? changed(file, change) : { path: file }),
  };
}

/** sha256 of a model's file and of the external weight files that it names; hex. */
export async function modelFileHash(file: string): Promise<string> {
  const bytes = await readModel(file);
  const own = createHash('sha256').update(bytes).digest('hex');
  const external: string[] = [];
  for (const location of locationsOf(decode(bytes, file)))
    external.push(await hashFile(await externalPath(file, location)));
  return external.length ? hashParts(own, ...external) : own;
}

/** The element type that most of a model's weights are stored in: float32, float16, int8, ...; int4 for packed blocks of 4 bits. */
export async function weightsType(file: string): Promise<string> {
  const model = decode(await readModel(file), file);
  const bytes = new Map<string, number>();
  for (const { dims, dataType } of tensorsOf(model)) {
    const type = dtypeOf.get(dataType) ?? (Onnx[dataType] ?? String(dataType)).toLowerCase();
    bytes.set(
      type,
      (bytes.get(type) ?? 0) + sizeOf(dims.map(Number)) * (arrayTypes[type as DType]?.BYTES_PER_ELEMENT ?? 1),
    );
  }
  const [most = 'float32'] = [...bytes].sort((a, b) => b[1] - a[1])[0] ?? [];
  const packed = most === 'uint8' && model.graph?.node.some((n) => n.opType === 'MatMulNBits');
  return packed ? 'int4' : most;
}

const locationsOf = (model: ModelProto): string[] => [
  ...new Set(Array.from(tensorsOf(model), externalLocation).filter((l) => l !== undefined)),
];

function portOf(info: ValueInfoProto): Port {
  const type = info.type?.value.case === 'tensorType' ? info.type.value.value : undefined;
  const code = type?.elemType ?? 0;
  return {
    name: info.name,
    dtype: dtypeOf.get(code) ?? (type ? (Onnx[code] ?? String(code)).toLowerCase() : 'no tensor'),
    dims: type?.shape?.dim.map(({ value }) =>
      value.case === 'dimValue' ? Number(value.value) : value.case === 'dimParam' ? value.value : '',
    ),
  };
}

/** Every name that a node reads, or that a subgraph of a node outputs. */
function namesRead({ node, output }: GraphProto, found: Set<string>): Set<string> {
  for (const { name } of output) found.add(name);
  for (const n of node) {
    for (const name of n.input) found.add(name);
    for (const a of n.attribute) for (const inner of [a.g, ...a.graphs]) if (inner) namesRead(inner, found);
  }
  return found;
}

function tableOf(graph: GraphProto): ModelFile['table'] {
  const weights = new Map(graph.initializer.map((t) => [t.name, t.dims.map(Number)]));
  const lookup = graph.node.find((n) => n.opType === 'Gather' && n.input[1] === 'input_ids');
  const dims = lookup && weights.get(lookup.input[0]);
  if (dims?.length !== 2) return undefined;
  const [rows, hidden] = dims;
  let widest = hidden;
  for (const [name, d] of weights)
    if (name !== lookup?.input[0] && d.length === 2 && d.includes(hidden))
      widest = d.reduce((m, n) => (n <= 8 * hidden ? Math.max(m, n) : m), widest);
  return { rows, hidden, widest };
}

/** The sigmoid or softmax node before an output, with only changes of form after it. */
function lastActivation(graph: GraphProto, output: string): NodeProto | undefined {
  const makers = new Map(graph.node.flatMap((n) => n.output.map((name) => [name, n] as const)));
  let node = makers.get(output);
  while (node && forms.has(node.opType) && isStandard(node)) node = makers.get(node.input[0] ?? '');
  return node && isStandard(node) && (node.opType === 'Sigmoid' || node.opType === 'Softmax') ? node : undefined;
}

const isStandard = ({ domain }: NodeProto): boolean => domain === '' || domain === 'ai.onnx';

async function changed(
  file: string,
  { output, beforeActivation, float }: { output: string; beforeActivation?: boolean; float?: boolean },
): Promise<ModelSource> {
  const model = decode(await readModel(file), file); // read again, since it is changed in place
  const graph = model.graph as GraphProto;
  const last = beforeActivation ? lastActivation(graph, output) : undefined;
  if (last) {
    last.opType = 'Identity';
    last.attribute = [];
  }
  const stated = graph.output.find((o) => o.name === output) as ValueInfoProto;
  graph.output = [stated];
  if (float) castToFloat(graph, stated);
  const weights = await moved(file, model);
  return { ...weights, bytes: toBinary(ModelProtoSchema, model) };
}

/** The binding has no bfloat16: such an output is cast under the same name. */
function castToFloat(graph: GraphProto, stated: ValueInfoProto): void {
  const { name } = stated;
  const inner = `${name}/before-float`;
  const renamed = (names: string[]): string[] => names.map((n) => (n === name ? inner : n));
  for (const n of graph.node) [n.input, n.output] = [renamed(n.input), renamed(n.output)];
  const to = create(AttributeProtoSchema, { name: 'to', type: Kind.INT, i: BigInt(Onnx.FLOAT) });
  graph.node.push(create(NodeProtoSchema, { opType: 'Cast', input: [inner], output: [name], attribute: [to] }));
  graph.valueInfo = graph.valueInfo.filter((v) => v.name !== name);
  if (stated.type?.value.case === 'tensorType') stated.type.value.value.elemType = Onnx.FLOAT;
}

/**
 * How ONNX Runtime gets the external weights of a model given as bytes: from one folder if all are in it (links resolved), which
 * it maps into memory at any size; otherwise as bytes.
 */
async function moved(file: string, model: ModelProto): Promise<Pick<ChangedSource, 'folder' | 'data'>> {
  const locations = locationsOf(model);
  if (!locations.length) return {};
  const real = new Map<string, string>();
  for (const location of locations) real.set(location, await realpath(await externalPath(file, location)));
  const folders = new Set(Array.from(real.values(), dirname));
  if (folders.size > 1) return { data: Array.from(real, ([path, file]) => ({ path, file })) };
  for (const t of tensorsOf(model)) {
    const own = t.externalData.find((e) => e.key === 'location');
    const to = own && real.get(own.value);
    if (to) own.value = basename(to);
  }
  return { folder: [...folders][0] };
}
