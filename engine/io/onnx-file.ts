/**
 * @file Reads and writes ONNX files; the only module that uses protobuf. Sizes that a file claims are checked against its bytes.
 */

import { readFile } from 'node:fs/promises';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import {
  type AttributeProto,
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  AttributeProto_AttributeType as Kind,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  type TensorProto,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { InputError } from '../../common/errors.ts';
import { afterPass } from '../graph/checker.ts';
import { foldDequantized, inlineConstants, settle } from '../graph/constants.ts';
import { type Attribute, type Dim, Graph, Node, Value } from '../graph/ir.ts';
import { isFloat, type Tensor } from '../graph/tensor.ts';
import {
  dtypeOf,
  type ExternalData,
  externalLocation,
  onnxType,
  readExternal,
  type Source,
  tensorOf,
  tensorProto,
} from './tensor-proto.ts';

export { type ExternalData, fromOnnxType, onnxType } from './tensor-proto.ts';

/**
 * Reads an ONNX file with its external data.
 * @throws InputError if the file is missing, truncated, not ONNX, or names data outside its folder
 */
export async function loadGraph(file: string): Promise<Graph> {
  const model = decode(await readModel(file), file);
  return toGraph(model, { file, external: await externalData(model, file) });
}

/** @throws InputError where it cannot be read */
export async function readModel(file: string): Promise<Uint8Array> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new InputError({
      code: 'onnx.unreadable',
      subject: `cannot read the model ${file} (${(cause as NodeJS.ErrnoException).code})`,
      remedy: 'give the path of an .onnx file or of a folder that holds onnx/model.onnx',
      cause,
    });
  }
}

async function externalData(model: ModelProto, file: string): Promise<ExternalData> {
  const external = new Map<string, Uint8Array>();
  for (const t of tensorsOf(model)) {
    const location = externalLocation(t);
    if (location !== undefined && !external.has(location)) external.set(location, await readExternal(file, location));
  }
  return external;
}

/** Reads a graph from the bytes of an ONNX file. `file` is its name in messages. */
export function parseGraph(bytes: Uint8Array, file = 'the model', external: ExternalData = new Map()): Graph {
  return toGraph(decode(bytes, file), { file, external });
}

/** The graph as the bytes of an ONNX file; the same graph gives the same bytes. */
export function encodeGraph(graph: Graph, options: { producer?: string; irVersion?: number } = {}): Uint8Array {
  afterPass(graph);
  return encodeModel(graphProto(graph), graph, options);
}

function encodeModel(
  proto: GraphProto,
  { opsets }: Graph,
  options: { producer?: string; irVersion?: number } = {},
): Uint8Array {
  const model = create(ModelProtoSchema, {
    irVersion: BigInt(options.irVersion ?? 8),
    producerName: options.producer ?? 'onnx-distill',
    opsetImport: [...opsets].map(([domain, version]) =>
      create(OperatorSetIdProtoSchema, { domain, version: BigInt(version) }),
    ),
    graph: proto,
  });
  return toBinary(ModelProtoSchema, model);
}

/** @param inputs those that the graph declares; all by default. A body reads the others from the graph around it. */
const graphProto = (graph: Graph, inputs: readonly Value[] = graph.inputs): GraphProto =>
  create(GraphProtoSchema, {
    name: 'graph',
    node: graph.nodes.map((node) =>
      create(NodeProtoSchema, {
        opType: node.op,
        domain: node.domain,
        name: node.name,
        input: node.inputs.map((v) => v?.name ?? ''),
        output: node.outputs.map((v) => v.name),
        attribute: [...node.attributes].map(([name, a]) => attributeProto(name, a)),
      }),
    ),
    initializer: graph.constants.map((v) => tensorProto(v.constant as Tensor, v.name)),
    input: inputs.map(valueInfo),
    output: graph.outputs.map(valueInfo),
  });

/** What a Loop's body is made of. Its outputs are, in this order: whether to go on, the carried values, the others. */
export interface LoopBody {
  graph: Graph;
  /** int64 [] number of the iteration and bool [] whether to go on, inputs of the body. */
  iteration: Value;
  condition: Value;
  /** Inputs that become what the body makes of them, and the tensors that they begin with: inputs of the file. */
  carried: readonly { value: Value; start: string }[];
}

/**
 * A file whose graph is one Loop: the body runs once an iteration and keeps what it carries where it computes. The file's inputs
 * are `LOOP_COUNT` int64 [], what is carried, and every other input of the body; its outputs what was carried last, then each
 * other output of the body, stacked along a new first axis.
 */
export function encodeLoop({ graph, iteration, condition, carried }: LoopBody): Uint8Array {
  afterPass(graph);
  const own = [iteration, condition, ...carried.map((c) => c.value)];
  const outer = graph.inputs.filter((v) => !own.includes(v));
  const count = new Value(LOOP_COUNT, { dtype: 'int64', dims: [] });
  const starts = carried.map(({ value, start }) => new Value(start, { dtype: value.dtype, dims: value.dims }));
  const results = graph.outputs.slice(1).map((v) => new Value(`${v.name}${LOOP_RESULT}`, { dtype: v.dtype }));
  const node = create(NodeProtoSchema, {
    opType: 'Loop',
    input: [LOOP_COUNT, '', ...starts.map((v) => v.name)],
    output: results.map((v) => v.name),
    attribute: [create(AttributeProtoSchema, { name: 'body', type: Kind.GRAPH, g: graphProto(graph, own) })],
  });
  const proto = create(GraphProtoSchema, {
    name: 'loop',
    node: [node],
    input: [count, ...starts, ...outer].map(valueInfo),
    output: results.map(valueInfo),
  });
  return encodeModel(proto, graph);
}

/** Input of a Loop's file: how many iterations at most. */
export const LOOP_COUNT = 'loop.count';
/** What follows the name of a body's output in the name of the file's. */
export const LOOP_RESULT = '.last';

/** A file's protobuf message. @throws InputError where it is cut short or holds no graph */
export function decode(bytes: Uint8Array, file: string): ModelProto {
  let model: ModelProto | undefined;
  try {
    model = fromBinary(ModelProtoSchema, bytes);
  } catch (cause) {
    throw new InputError({
      code: 'onnx.malformed',
      subject: `${file} is not a whole ONNX file (${(cause as Error).message})`,
      remedy: 'export or download it again',
      cause,
    });
  }
  if (!model.graph?.node.length && !model.graph?.output.length)
    throw new InputError({
      code: 'onnx.empty',
      subject: `${file} holds no graph`,
      remedy: 'export or download the ONNX file again',
    });
  return model;
}

/** Every tensor of a model: of its graph, subgraphs, sparse weights and functions. */
export function* tensorsOf(model: ModelProto): Generator<TensorProto> {
  if (model.graph) yield* tensorsOfGraph(model.graph);
  for (const f of model.functions) yield* tensorsOfNodes(f.node);
}

function* tensorsOfGraph({ initializer, sparseInitializer, node }: GraphProto): Generator<TensorProto> {
  yield* initializer;
  for (const s of sparseInitializer) for (const t of [s.values, s.indices]) if (t) yield t;
  yield* tensorsOfNodes(node);
}

function* tensorsOfNodes(nodes: readonly NodeProto[]): Generator<TensorProto> {
  for (const node of nodes)
    for (const a of node.attribute) {
      for (const t of [a.t, ...a.tensors, a.sparseTensor?.values, a.sparseTensor?.indices]) if (t) yield t;
      for (const g of [a.g, ...a.graphs]) if (g) yield* tensorsOfGraph(g);
    }
}

function toGraph(model: ModelProto, source: Source): Graph {
  const proto = model.graph as NonNullable<ModelProto['graph']>;
  const bad = (what: string, remedy: string): InputError =>
    new InputError({ code: 'onnx.unsupported', subject: `${source.file}: ${what}`, remedy });
  if (model.functions.length)
    throw bad(`has local functions (${model.functions[0].name})`, 'export it with functions inlined');
  const graph = new Graph(0);
  graph.opsets.clear();
  for (const o of model.opsetImport) graph.opsets.set(o.domain === 'ai.onnx' ? '' : o.domain, Number(o.version));
  if (!graph.opsets.has('')) throw bad('declares no version of the ONNX operators', 'export it again');

  const known = new Map<string, Value>();
  for (const t of proto.initializer)
    known.set(t.name, graph.constant(tensorOf(t, source, `initializer '${t.name}'`), t.name));
  for (const info of proto.input) {
    if (known.has(info.name)) continue;
    const type = info.type?.value.case === 'tensorType' ? info.type.value.value : undefined;
    const dtype = type && dtypeOf.get(type.elemType);
    if (!dtype) throw bad(`input '${info.name}' is not a tensor of a known type`, 'export it again');
    known.set(info.name, graph.input(info.name, dtype, dimsOf(info) ?? []));
  }
  const infos = new Map([...proto.valueInfo, ...proto.output].map((info) => [info.name, info]));
  readNodes(proto.node, { graph, known, infos, source, bad });
  for (const info of proto.output) {
    const value = known.get(info.name);
    if (!value) throw bad(`output '${info.name}' is never made`, 'export it again');
    graph.output(value);
  }
  inlineConstants(graph);
  foldDequantized(graph);
  return graph;
}

interface Scope {
  graph: Graph;
  known: Map<string, Value>;
  infos: ReadonlyMap<string, ValueInfoProto>;
  source: Source;
  bad: (what: string, remedy: string) => InputError;
}

function readNodes(nodes: readonly NodeProto[], scope: Scope): void {
  const { graph, known, infos, source, bad } = scope;
  for (const n of nodes) {
    if (n.opType === 'If') {
      takeBranch(n, scope);
      continue;
    }
    if (untie(n, scope)) continue;
    const outputs = n.output.map((name) => {
      if (!name) return new Value('');
      if (known.has(name)) throw bad(`makes '${name}' twice`, 'export it again');
      const info = infos.get(name);
      const elem = info?.type?.value.case === 'tensorType' ? info.type.value.value.elemType : 0;
      const value = new Value(graph.freshName(name), { dtype: dtypeOf.get(elem), dims: info && dimsOf(info) });
      return value;
    });
    const inputs = n.input.map((name) => {
      if (!name) return null;
      const value = known.get(name);
      if (!value) throw bad(`node ${n.opType} '${n.name}' reads '${name}' before it is made`, 'export it again');
      return value;
    });
    const node = new Node(n.opType, inputs, outputs, { domain: n.domain === 'ai.onnx' ? '' : n.domain, name: n.name });
    for (const a of n.attribute) {
      const value = attributeOf(a, source, n.name || n.opType);
      if (!value)
        throw bad(
          `node ${node.title} has attribute '${a.name}' of a kind (subgraph, reference) that is not read`,
          'export it without control flow',
        );
      node.attributes.set(a.name, value);
    }
    for (const [i, name] of n.output.entries()) if (name) known.set(name, outputs[i]);
    graph.addNode(node);
  }
}

/**
 * A weight that the exporter of PyTorch left out because another one has the same numbers, as biases and norms have before they are
 * trained: the file names it by an Identity. It is a weight of its own.
 * @source deduplicate_initializers, torch/csrc/jit/passes/onnx/deduplicate_initializers.cpp
 */
function untie({ opType, domain, input, output }: NodeProto, { graph, known }: Scope): boolean {
  const [same, name] = [known.get(input[0] ?? ''), output[0] ?? ''];
  const weight = same?.constant;
  if (opType !== 'Identity' || domain || !weight || !isFloat(weight.dtype)) return false;
  if (!/\.(weight|bias|gamma|beta)$/.test(name) || !/\.(weight|bias|gamma|beta)$/.test(input[0])) return false;
  known.set(name, graph.constant({ ...weight, data: weight.data.slice() } as Tensor, name));
  return true;
}

/** An If with a constant condition is replaced by its branch: exporters write one where they could not tell a dimension of 1. */
function takeBranch(n: NodeProto, scope: Scope): void {
  const condition = scope.known.get(n.input[0] ?? '');
  const settled = condition && settle(condition);
  if (!settled)
    throw scope.bad(
      `node If ('${n.name}') branches on a condition that is only known when the graph runs`,
      'export it without control flow',
    );
  const branch = n.attribute.find((a) => a.name === (settled[0] ? 'then_branch' : 'else_branch'))?.g;
  if (!branch) throw scope.bad(`node If ('${n.name}') lacks a branch`, 'export it again');
  const { graph, known, source } = scope;
  for (const t of branch.initializer)
    known.set(t.name, graph.constant(tensorOf(t, source, `initializer '${t.name}'`), t.name));
  const infos = new Map([...scope.infos, ...[...branch.valueInfo, ...branch.output].map((i) => [i.name, i] as const)]);
  readNodes(branch.node, { ...scope, infos });
  for (const [i, name] of n.output.entries()) {
    const inner = known.get(branch.output[i]?.name ?? '');
    if (!inner) throw scope.bad(`node If ('${n.name}') never makes '${name}'`, 'export it again');
    const value = new Value(graph.freshName(name), { dtype: inner.dtype, dims: inner.dims });
    graph.addNode(new Node('Identity', [inner], [value], { name: n.name }));
    known.set(name, value);
  }
}

function dimsOf(info: ValueInfoProto): Dim[] | undefined {
  const shape = info.type?.value.case === 'tensorType' ? info.type.value.value.shape : undefined;
  return shape?.dim.map((d, i) =>
    d.value.case === 'dimValue'
      ? Number(d.value.value)
      : d.value.case === 'dimParam'
        ? d.value.value
        : `${info.name}_${i}`,
  );
}

function attributeOf(a: AttributeProto, source: Source, node: string): Attribute | undefined {
  const text = new TextDecoder();
  switch (a.type) {
    case Kind.INT:
      return { kind: 'int', value: Number(a.i) };
    case Kind.FLOAT:
      return { kind: 'float', value: a.f };
    case Kind.STRING:
      return { kind: 'string', value: text.decode(a.s) };
    case Kind.INTS:
      return { kind: 'ints', value: a.ints.map(Number) };
    case Kind.FLOATS:
      return { kind: 'floats', value: a.floats };
    case Kind.STRINGS:
      return { kind: 'strings', value: a.strings.map((s) => text.decode(s)) };
    case Kind.TENSOR:
      return a.t && { kind: 'tensor', value: tensorOf(a.t, source, `attribute '${a.name}' of '${node}'`) };
    default:
      return undefined;
  }
}

const int64 = (value: number): bigint => BigInt.asIntN(64, value >= 2 ** 63 ? 2n ** 63n - 1n : BigInt(value));

function attributeProto(name: string, a: Attribute): AttributeProto {
  const text = new TextEncoder();
  switch (a.kind) {
    case 'int':
      return create(AttributeProtoSchema, { name, type: Kind.INT, i: int64(a.value) });
    case 'float':
      return create(AttributeProtoSchema, { name, type: Kind.FLOAT, f: a.value });
    case 'string':
      return create(AttributeProtoSchema, { name, type: Kind.STRING, s: text.encode(a.value) });
    case 'ints':
      return create(AttributeProtoSchema, { name, type: Kind.INTS, ints: a.value.map(int64) });
    case 'floats':
      return create(AttributeProtoSchema, { name, type: Kind.FLOATS, floats: [...a.value] });
    case 'strings':
      return create(AttributeProtoSchema, { name, type: Kind.STRINGS, strings: a.value.map((s) => text.encode(s)) });
    case 'tensor':
      return create(AttributeProtoSchema, { name, type: Kind.TENSOR, t: tensorProto(a.value) });
  }
}

/** ONNX Runtime infers what a value info leaves out, so that a name is enough for an output. */
function valueInfo(v: Value): ValueInfoProto {
  if (!v.dtype) return create(ValueInfoProtoSchema, { name: v.name });
  const shape =
    v.dims &&
    create(TensorShapeProtoSchema, {
      dim: v.dims.map((d) =>
        create(TensorShapeProto_DimensionSchema, {
          value: typeof d === 'number' ? { case: 'dimValue', value: BigInt(d) } : { case: 'dimParam', value: d },
        }),
      ),
    });
  return create(ValueInfoProtoSchema, {
    name: v.name,
    type: create(TypeProtoSchema, {
      value: { case: 'tensorType', value: create(TypeProto_TensorSchema, { elemType: onnxType(v.dtype), shape }) },
    }),
  });
}
