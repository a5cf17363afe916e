/** @file Fuses LayerNormalization and Gelu that exporters decomposed, so that their fused gradient rules apply. */
import { afterPass } from '../graph/checker.ts';
import { type Graph, Node, Value } from '../graph/ir.ts';
import { tensor } from '../graph/tensor.ts';

/** Fuses LayerNormalization and Gelu in place. Float graphs of the canonical opset. @returns how many were fused */
export function fuse(graph: Graph): number {
  let fused = 0;
  for (const node of [...graph.nodes]) {
    if (node.op === 'ReduceMean') fused += Number(layerNormalization(graph, node));
    if (node.op === 'Erf') fused += Number(gelu(graph, node));
  }
  if (fused) {
    graph.prune();
    graph.sort();
  }
  afterPass(graph);
  return fused;
}

const scalar = (v: Value | null | undefined): number | undefined =>
  v?.constant && v.constant.data.length === 1 ? Number(v.constant.data[0]) : undefined;

/** Tolerance for constants stored in half precision. */
const near = (a: number | undefined, b: number): boolean => a !== undefined && Math.abs(a - b) <= 1e-3 * Math.abs(b);

/** The only reader of a value, if it is the given operator. */
function only(v: Value, op: string): Node | undefined {
  const [node] = v.readers;
  return v.readers.size === 1 && node.op === op ? node : undefined;
}

/** The other input of a two-input node. */
const other = (node: Node, v: Value): Value => (node.inputs[0] === v ? node.inputs[1] : node.inputs[0]) as Value;

const overLastAxis = (node: Node): boolean => {
  const axes = node.inputs[1]?.constant;
  return axes?.data.length === 1 && Number(axes.data[0]) === -1 && node.int('keepdims', 1) === 1;
};

/** (x - mean) / sqrt(mean((x - mean)^2) + eps) * scale + bias, as TorchScript writes it. */
function layerNormalization(graph: Graph, meanNode: Node): boolean {
  const x = meanNode.inputs[0] as Value;
  const centre = only(meanNode.outputs[0], 'Sub');
  if (!centre || centre.inputs[0] !== x || !overLastAxis(meanNode)) return false;
  const centred = centre.outputs[0];
  const square = [...centred.readers].find(
    (n) => (n.op === 'Pow' && scalar(n.inputs[1]) === 2) || (n.op === 'Mul' && n.inputs[0] === n.inputs[1]),
  );
  const variance = square && only(square.outputs[0], 'ReduceMean');
  const stable = variance && overLastAxis(variance) ? only(variance.outputs[0], 'Add') : undefined;
  const epsilon = stable && scalar(other(stable, (variance as Node).outputs[0]));
  const deviation = stable && only(stable.outputs[0], 'Sqrt');
  const normal = deviation && only(deviation.outputs[0], 'Div');
  if (!normal || normal.inputs[0] !== centred || epsilon === undefined) return false;
  const scaled = only(normal.outputs[0], 'Mul');
  const scale = scaled && other(scaled, normal.outputs[0]);
  const width = scale?.dims?.length === 1 ? scale.dims[0] : undefined;
  if (!scaled || !scale || typeof width !== 'number') return false;
  const shifted = only(scaled.outputs[0], 'Add');
  const bias = shifted && other(shifted, scaled.outputs[0]);
  const hasBias = bias?.dims?.length === 1 && bias.dims[0] === width && !bias.producer;
  const end = hasBias ? (shifted as Node) : scaled;
  const node = new Node(
    'LayerNormalization',
    [x, scale, hasBias ? (bias as Value) : graph.constant(tensor('float32', [width], new Float32Array(width)))],
    [newOutput(graph, end)],
    {
      name: meanNode.name,
      attributes: { axis: -1, epsilon: { kind: 'float', value: epsilon } },
    },
  );
  return insert(graph, node, end);
}

/** x * (1 + erf(x / sqrt 2)) / 2 with its factors in either order. */
function gelu(graph: Graph, erf: Node): boolean {
  const inner = (erf.inputs[0] as Value).producer;
  if (!inner) return false;
  const x =
    inner.op === 'Div' && near(scalar(inner.inputs[1]), Math.SQRT2)
      ? inner.inputs[0]
      : inner.op === 'Mul' && near(scalar(inner.inputs[1]), Math.SQRT1_2)
        ? inner.inputs[0]
        : inner.op === 'Mul' && near(scalar(inner.inputs[0]), Math.SQRT1_2)
          ? inner.inputs[1]
          : undefined;
  const plus = only(erf.outputs[0], 'Add');
  if (!x || !plus || scalar(other(plus, erf.outputs[0])) !== 1) return false;
  const product = only(plus.outputs[0], 'Mul');
  if (!product) return false;
  const factor = other(product, plus.outputs[0]);
  let end: Node | undefined;
  if (factor === x) {
    // (x (1 + erf)) / 2
    const half = only(product.outputs[0], 'Mul') ?? only(product.outputs[0], 'Div');
    if (half && scalar(other(half, product.outputs[0])) === (half.op === 'Mul' ? 0.5 : 2)) end = half;
  } else if (factor.producer?.op === 'Mul') {
    // (x / 2) (1 + erf)
    const half = factor.producer;
    if (
      (half.inputs[0] === x && scalar(half.inputs[1]) === 0.5) ||
      (half.inputs[1] === x && scalar(half.inputs[0]) === 0.5)
    )
      end = product;
  } else if (scalar(factor) === 0.5) {
    // x ((1 + erf) / 2)
    const whole = only(product.outputs[0], 'Mul');
    if (whole && other(whole, product.outputs[0]) === x) end = whole;
  }
  if (!end) return false;
  return insert(graph, new Node('Gelu', [x], [newOutput(graph, end)], { name: erf.name }), end);
}

const newOutput = (graph: Graph, end: Node): Value => {
  const { name, dtype, dims } = end.outputs[0];
  return new Value(graph.freshName(name), { dtype, dims });
};

function insert(graph: Graph, node: Node, end: Node): boolean {
  const [from] = end.outputs;
  const [to] = node.outputs;
  const name = from.name;
  from.name = to.name;
  to.name = name;
  graph.replace(from, to);
  graph.insertAfter(end, node);
  return true;
}
