/** @file Writes graphs as ONNX files. */
import { create, toBinary } from '@bufbuild/protobuf';
import {
  type AttributeProto,
  AttributeProtoSchema,
  type GraphProto,
  GraphProtoSchema,
  AttributeProto_AttributeType as Kind,
  ModelProtoSchema,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from 'onnx-buf';
import { afterPass } from '../graph/checker.ts';
import { type Attribute, type Graph, Value } from '../graph/ir.ts';
import type { Tensor } from '../graph/tensor.ts';
import { onnxType, tensorProto } from './tensor-proto.ts';

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
