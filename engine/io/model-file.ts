/** @file An ONNX file that is only run: what it takes and gives is read from it, and it goes to ONNX Runtime as it stands. */
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
import { sizeOf } from '../graph/tensor.ts';
import { decode, readModel, tensorsOf } from './onnx-file.ts';
import { dtypeOf, externalLocation, externalPath } from './tensor-proto.ts';

/** An input or output as a file states it. */
export interface Port {
  name: string;
  /** As this engine names types; another type by ONNX's name for it. */
  dtype: string;
  /** A number where the file fixes it, a name or nothing where it does not; absent where the file states no shape. */
  dims: readonly (number | string)[] | undefined;
  /** Of an input, whether a node reads it. */
  read?: boolean;
}

/** What stands last before an output: an activation that makes probabilities of logits. */
export type LastActivation = 'Sigmoid' | 'Softmax';

export interface ModelFile {
  readonly file: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  /** Rows and columns of the table that token ids are looked up in, and the widest of its weights; absent where not found. */
  readonly table: { rows: number; hidden: number; widest: number } | undefined;
  /** Shapes of the weights of its graph, by name. */
  readonly weights: ReadonlyMap<string, readonly number[]>;
  /** Numbers in its weights. */
  readonly parameters: number;
  /** The activation that an output comes from, where the graph shows it. */
  activation(output: string): LastActivation | undefined;
  /** The file as it stands, or changed: one output alone, in float32, and read before its activation. */
  source(change?: { output: string; beforeActivation?: boolean; float?: boolean }): Promise<ModelSource>;
}

/** What ONNX Runtime is given: a file's path, or the bytes of a changed one with the files that hold its weights. */
export type ModelSource = { path: string } | ChangedSource;

export interface ChangedSource {
  bytes: Uint8Array;
  /** Where the weights that it names lie. */
  folder?: string;
  /** Files of weights by the name that the model gives them, where they lie in several folders. */
  data?: readonly { path: string; file: string }[];
}

/** Operators that change the form of an output and not what it says. */
const forms = new Set(['Identity', 'Cast', 'Squeeze', 'Unsqueeze', 'Reshape', 'Flatten']);

/**
 * Reads what an ONNX file takes and gives, and checks where it keeps its weights. Operators are not looked at: ONNX Runtime knows
 * which it has.
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

/** sha256 of what a model's weights are read from: its file, and the files beside it that it names; hex. */
export async function modelFileHash(file: string): Promise<string> {
  const bytes = await readModel(file);
  const own = createHash('sha256').update(bytes).digest('hex');
  const beside: string[] = [];
  for (const location of locationsOf(decode(bytes, file)))
    beside.push(await hashFile(await externalPath(file, location)));
  return beside.length ? hashParts(own, ...beside) : own;
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

/** Every name that a node reads, or that a graph within a node gives out. */
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

/** The node of a sigmoid or softmax that nothing but a change of form follows. */
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
  const model = decode(await readModel(file), file); // read anew: it is changed in place
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

/** The binding has no bfloat16: such an output goes through a Cast under the same name. */
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
 * Where ONNX Runtime finds the weights of a model that it is given as bytes: in one folder where they all lie there, links
 * resolved, which it maps into memory whatever their size; otherwise as bytes.
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
