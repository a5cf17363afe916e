/** @file Reads ONNX files. Sizes that a file claims are checked against its bytes. */

import { readFile } from 'node:fs/promises';
import { fromBinary } from '@bufbuild/protobuf';
import {
  type AttributeProto,
  type GraphProto,
  AttributeProto_AttributeType as Kind,
  type ModelProto,
  ModelProtoSchema,
  type NodeProto,
  type TensorProto,
  type ValueInfoProto,
} from 'onnx-buf';
import { InputError } from '../../common/errors.ts';
import { foldDequantized, inlineConstants, settle } from '../graph/constants.ts';
import { type Attribute, type Dim, Graph, Node, Value } from '../graph/ir.ts';
import { isFloat, type Tensor } from '../graph/tensor.ts';
import { dtypeOf, type ExternalData, externalLocation, readExternal, type Source, tensorOf } from './tensor-proto.ts';

export { encodeGraph, encodeLoop, LOOP_COUNT, LOOP_RESULT } from './encode-onnx.ts';
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
