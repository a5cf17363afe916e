/** @file Converts a graph to float64 for precise checks; operators that ONNX Runtime has only in float32 are expanded. */
import { afterPass } from '../graph/checker.ts';
import type { Graph, Node, Value } from '../graph/ir.ts';
import { castFloat, tensor } from '../graph/tensor.ts';
import { fromOnnxType, onnxType } from '../io/onnx-file.ts';

/** The writing of nodes in place of one. */
class Write {
  private readonly graph: Graph;
  constructor(graph: Graph) {
    this.graph = graph;
  }
  op(name: string, ...inputs: (Value | number)[]): Value {
    const values = inputs.map((v) => (typeof v === 'number' ? this.graph.constant(tensor('float64', [], [v])) : v));
    return this.graph.add(name, values);
  }
  softmax(x: Value): Value {
    return this.graph.add('Softmax', [x], { axis: -1 });
  }
  einsum(a: Value, b: Value, equation: string): Value {
    return this.graph.add('Einsum', [a, b], { equation });
  }
  mean(x: Value, axes: readonly number[]): Value {
    return this.graph.add('ReduceMean', [x, this.graph.constant(tensor('int64', [axes.length], axes))], {
      keepdims: 1,
    });
  }
}

/** erf x = 2 / sqrt(pi) exp(-x^2) sum 2^n x^(2n+1) / (2n+1)!!, whose terms all have the same sign; beyond 5.9 it is 1. */
function erf(w: Write, given: Value): Value {
  const x = w.op('Max', w.op('Min', given, 5.9), -5.9);
  const square = w.op('Mul', x, x);
  const twice = w.op('Mul', square, 2);
  let sum = w.op('Add', w.op('Mul', twice, 1 / (2 * TERMS + 1)), 1);
  for (let n = TERMS - 1; n > 0; n--) sum = w.op('Add', w.op('Mul', w.op('Mul', sum, twice), 1 / (2 * n + 1)), 1);
  const bell = w.op('Mul', w.op('Exp', w.op('Neg', square)), 2 / Math.sqrt(Math.PI));
  return w.op('Mul', w.op('Mul', x, bell), sum);
}
/** Enough terms for 5.9, where they shrink from the 35th on. */
const TERMS = 140;

function gelu(w: Write, x: Value, tanh: boolean): Value {
  const inner = tanh
    ? w.op(
        'Tanh',
        w.op('Mul', w.op('Add', x, w.op('Mul', w.op('Mul', w.op('Mul', x, x), x), 0.044715)), Math.sqrt(2 / Math.PI)),
      )
    : erf(w, w.op('Mul', x, Math.SQRT1_2));
  return w.op('Mul', w.op('Mul', x, 0.5), w.op('Add', inner, 1));
}

function softplus(w: Write, x: Value): Value {
  return w.op('Add', w.op('Max', x, 0), w.op('Log', w.op('Add', w.op('Exp', w.op('Neg', w.op('Abs', x))), 1)));
}

/** The positive part, plus a slope times `below` of the negative part. */
function bent(w: Write, x: Value, slope: Value | number, below = (v: Value): Value => v): Value {
  return w.op('Add', w.op('Max', x, 0), w.op('Mul', below(w.op('Min', x, 0)), slope));
}

/** Where it is known that a value has two dimensions: Einsum does not broadcast none of them against several. */
const isMatrix = ({ dims }: Value): boolean => dims?.length === 2;

/** alpha A' B' over leading dimensions, which a matrix on the right need not have. */
function product(w: Write, a: Value, b: Value, node: Node): Value {
  const leading = isMatrix(b) ? '' : '...';
  const [left, right] = [node.int('transA', 0) ? '...ji' : '...ij', `${leading}${node.int('transB', 0) ? 'kj' : 'jk'}`];
  const plain = left === '...ij' && right.endsWith('jk');
  const made = plain ? w.op('MatMul', a, b) : w.einsum(a, b, `${left},${right}->...ik`);
  return w.op('Mul', made, unrounded(node.float('alpha', 1)));
}

const ramp = (w: Write, x: Value, slope: number, shift: number): Value =>
  w.op('Max', w.op('Min', w.op('Add', w.op('Mul', x, slope), shift), 1), 0);

/** With the mean and the inverse deviation that the gradient reads; ONNX Runtime keeps those in float32. */
function layerNormalization(w: Write, node: Node): Value[] {
  const [x, scale, bias] = node.inputs as Value[];
  const axes = (scale.dims ?? [1]).map((_, i) => i - (scale.dims ?? [1]).length);
  const mean = w.mean(x, axes);
  const centred = w.op('Sub', x, mean);
  const variance = w.mean(w.op('Mul', centred, centred), axes);
  const inverse = w.op('Reciprocal', w.op('Sqrt', w.op('Add', variance, unrounded(node.float('epsilon', 1e-5)))));
  const scaled = w.op('Mul', w.op('Mul', centred, inverse), scale);
  return [bias ? w.op('Add', scaled, bias) : scaled, mean, inverse];
}

/** alpha A' B' of matrices; an attribute alone would stay a float32. */
function scaledGemm(w: Write, node: Node): Value {
  const [a, b] = node.inputs as [Value, Value];
  const equation = `${node.int('transA', 0) ? 'ji' : 'ij'},${node.int('transB', 0) ? 'kj' : 'jk'}->ik`;
  return w.op('Mul', w.einsum(a, b, equation), unrounded(node.float('alpha', 1)));
}

/** Operators of com.microsoft among them. */
const ofMicrosoft = new Set(['BiasSoftmax', 'FusedMatMul']);

const written: Readonly<Record<string, (w: Write, x: Value, node: Node) => Value | Value[]>> = {
  BiasSoftmax: (w, x, n) => w.softmax(w.op('Add', x, n.inputs[1] as Value)),
  FusedMatMul: (w, a, n) => product(w, a, n.inputs[1] as Value, n),
  Elu: (w, x, n) => bent(w, x, n.float('alpha', 1), (v) => w.op('Sub', w.op('Exp', v), 1)),
  Erf: erf,
  Gemm: (w, _, n) => scaledGemm(w, n),
  Gelu: (w, x, n) => gelu(w, x, n.string('approximate', 'none') === 'tanh'),
  HardSigmoid: (w, x, n) => ramp(w, x, n.float('alpha', 0.2), n.float('beta', 0.5)),
  HardSwish: (w, x) => w.op('Mul', x, ramp(w, x, 1 / 6, 0.5)),
  LayerNormalization: (w, _, n) => layerNormalization(w, n),
  LeakyRelu: (w, x, n) => bent(w, x, n.float('alpha', 0.01)),
  Mean: (w, _, n) => w.op('Div', w.op('Sum', ...(n.inputs as Value[])), n.inputs.length),
  Mish: (w, x) => w.op('Mul', x, w.op('Tanh', softplus(w, x))),
  PRelu: (w, x, n) => bent(w, x, n.inputs[1] as Value),
  Softplus: softplus,
  Softsign: (w, x) => w.op('Div', x, w.op('Add', w.op('Abs', x), 1)),
};

/**
 * Makes every float32 of a graph a float64, in place. Constants that float32 rounded (the square root of 2, 1e-12) get their
 * unrounded values.
 *
 * @param weights constants that stay unchanged, e.g. a bias of one number
 */
export function toDouble(graph: Graph, weights: ReadonlySet<Value> = new Set()): Graph {
  for (const v of graph.constants)
    if (v.constant?.dtype === 'float32') {
      const wide = castFloat(v.constant, 'float64');
      v.constant =
        wide.data.length === 1 && !weights.has(v) ? tensor('float64', wide.dims, [unrounded(wide.data[0])]) : wide;
      v.dtype = 'float64';
    }
  for (const v of graph.values().values()) if (v.dtype === 'float32') v.dtype = 'float64';
  for (const node of graph.nodes)
    for (const [name, a] of node.attributes) {
      if (name === 'to' && a.kind === 'int' && fromOnnxType(a.value) === 'float32')
        node.attributes.set(name, { kind: 'int', value: onnxType('float64') });
      if (a.kind === 'tensor' && a.value.dtype === 'float32')
        node.attributes.set(name, { kind: 'tensor', value: castFloat(a.value, 'float64') });
    }
  for (const node of [...graph.nodes]) {
    const write =
      (node.domain === '' || ofMicrosoft.has(node.op)) && Object.hasOwn(written, node.op)
        ? written[node.op]
        : undefined;
    if (!write || (node.op === 'Gemm' && (node.inputs.length > 2 || node.float('alpha', 1) === 1))) continue;
    const made = [write(new Write(graph), node.inputs[0] as Value, node)].flat();
    for (const [i, old] of node.outputs.entries()) {
      [made[i].name, old.name] = [old.name, made[i].name];
      graph.replace(old, made[i]);
    }
  }
  graph.prune();
  graph.sort();
  afterPass(graph);
  return graph;
}

/** The short decimal number, or the root of one, that float32 rounds to this. */
function unrounded(value: number): number {
  const short = [...Array(7)].map((_, digits) => Number(value.toPrecision(digits + 1)));
  const square = Number((value * value).toPrecision(6));
  const fourth = Number((value ** 4).toPrecision(6));
  const roots = [Math.sqrt(square), Math.sqrt(1 / Math.round(1 / square)), Math.sqrt(2 / Math.PI), fourth ** 0.25];
  return (
    [...short.slice(0, 6), ...roots, ...roots.map((r) => -r), short[6]].find((v) => Math.fround(v) === value) ?? value
  );
}
