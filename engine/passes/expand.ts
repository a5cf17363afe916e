/** @file Expands composite operators (fused ones of ONNX Runtime, newer ones of ONNX) into basic ones. One entry per operator. */
import { InputError } from '../../common/errors.ts';
import { type AttributeInput, float, type Graph, type Node, type Value } from '../graph/ir.ts';
import { tensor } from '../graph/tensor.ts';
import { onnxType } from '../io/onnx-file.ts';

type Input = Value | null | undefined;

/** The context of an expansion: the node, and methods that write nodes in its place. */
class Place {
  readonly node: Node;
  private written = 0;
  private readonly graph: Graph;

  constructor(graph: Graph, node: Node) {
    this.graph = graph;
    this.node = node;
  }

  input(i: number): Value | null {
    return this.node.inputs[i] ?? null;
  }

  op(name: string, inputs: readonly Input[], attributes: Record<string, AttributeInput> = {}): Value {
    return this.ops(name, inputs, 1, attributes)[0];
  }

  ops(name: string, inputs: readonly Input[], outputs: number, attributes: Record<string, AttributeInput> = {}) {
    const options = { name: `${this.node.name || this.node.outputs[0].name}/${name}${this.written++ || ''}` };
    return this.graph.addMany(
      name,
      inputs.map((v) => v ?? null),
      outputs,
      attributes,
      options,
    );
  }

  number(value: number): Value {
    return this.graph.constant(tensor('float32', [], [value]));
  }

  ints(...values: number[]): Value {
    return this.graph.constant(tensor('int64', [values.length], values));
  }

  /** a + b, or the one that is present. */
  sum(a: Value, b: Input): Value {
    return b ? this.op('Add', [a, b]) : a;
  }

  times(a: Value, factor: number): Value {
    return factor === 1 ? a : this.op('Mul', [a, this.number(factor)]);
  }

  /** Refuses uses that the entry does not cover. */
  refuse(what: string): InputError {
    return new InputError({
      code: 'onnx.fused',
      subject: `operator ${this.node.title} ${what}, which has no gradient rule`,
      remedy: "extend its entry in engine/graph/expand.ts, or take the file as it was before ONNX Runtime's optimizer",
    });
  }
}

/** Replaces the outputs, in order; omitted outputs must have no reader. */
type Expansion = (p: Place) => readonly (Value | null)[];

const microsoft: Readonly<Record<string, Expansion>> = {
  Attention: (p) => [packedAttention(p)],
  BiasAdd: (p) => [p.sum(p.sum(p.input(0) as Value, p.input(1)), p.input(2))],
  BiasGelu: (p) => [p.op('Gelu', [p.sum(p.input(0) as Value, p.input(1))])],
  BiasSoftmax: (p) => {
    if (p.node.int('is_inner_broadcast', 1) !== 1) throw p.refuse('broadcasts its bias over inner axes');
    return [p.op('Softmax', [p.op('Add', [p.input(0), p.input(1)])], { axis: p.node.int('axis', 1) })];
  },
  EmbedLayerNormalization: (p) => embedLayerNormalization(p),
  FastGelu: (p) => [p.op('Gelu', [p.sum(p.input(0) as Value, p.input(1))], { approximate: 'tanh' })],
  FusedMatMul: (p) => {
    if (p.node.int('transBatchA', 0) || p.node.int('transBatchB', 0)) throw p.refuse('transposes its batches');
    const [a, b] = [p.node.int('transA', 0) ? '...ji' : '...ij', p.node.int('transB', 0) ? '...kj' : '...jk'];
    const plain = a === '...ij' && b === '...jk';
    const product = plain
      ? p.op('MatMul', p.node.inputs)
      : p.op('Einsum', p.node.inputs, { equation: `${a},${b}->...ik` });
    return [p.times(product, p.node.float('alpha', 1))];
  },
  Gelu: (p) => [p.op('Gelu', [p.input(0)])],
  MultiHeadAttention: (p) => [multiHeadAttention(p)],
  QuickGelu: (p) => {
    const x = p.input(0) as Value;
    return [p.op('Mul', [x, p.op('Sigmoid', [p.times(x, p.node.float('alpha', 1.702))])])];
  },
  RotaryEmbedding: (p) => [rotary(p, p.input(2), p.input(3), p.input(1), p.node.int('num_heads', 0))],
  SkipLayerNormalization: (p) => {
    const [x, skip, scale, shift, bias] = [0, 1, 2, 3, 4].map((i) => p.input(i));
    const sum = p.sum(p.sum(x as Value, skip), bias);
    return [layerNormalization(p, sum, scale, shift, 1e-12), null, null, sum];
  },
  SkipSimplifiedLayerNormalization: (p) => {
    const sum = p.sum(p.sum(p.input(0) as Value, p.input(1)), p.input(3));
    return [rootMeanSquare(p, sum, p.input(2), -1), null, null, sum];
  },
};

const standard: Readonly<Record<string, Expansion>> = {
  Attention: (p) => [attention(p)],
  Conv: (p) => [convolution(p)],
  LpNormalization: (p) => {
    const [x, axes] = [p.input(0), p.ints(p.node.int('axis', -1))];
    return [p.op('Div', [x, p.op(p.node.int('p', 2) === 1 ? 'ReduceL1' : 'ReduceL2', [x, axes], { keepdims: 1 })])];
  },
  RMSNormalization: (p) => [rootMeanSquare(p, p.input(0) as Value, p.input(1), p.node.int('axis', -1))],
  RotaryEmbedding: (p) => [rotary(p, p.input(1), p.input(2), p.input(3), p.node.int('num_heads', 0))],
  // ONNX Runtime writes it in ONNX's default domain, which does not define it.
  SimplifiedLayerNormalization: (p) => [rootMeanSquare(p, p.input(0) as Value, p.input(1), p.node.int('axis', -1))],
  Swish: (p) => {
    const x = p.input(0) as Value;
    return [p.op('Mul', [x, p.op('Sigmoid', [p.times(x, p.node.float('alpha', 1))])])];
  },
};

const tables: Readonly<Record<string, Readonly<Record<string, Expansion>>>> = {
  '': standard,
  'com.microsoft': microsoft,
};

/** Whether a node is one of these. */
const isComposite = (node: Node): boolean => Object.hasOwn(tables[node.domain] ?? {}, node.op);

/**
 * Expands every composite operator in place.
 * @throws InputError where one is used in a way that its entry does not cover
 */
export function expand(graph: Graph): void {
  const composite = graph.nodes.filter(isComposite);
  for (const node of composite) {
    const outputs = tables[node.domain][node.op](new Place(graph, node));
    node.outputs.forEach((old, i) => {
      const own = outputs[i];
      if (!own) {
        if (old.readers.size || graph.outputs.includes(old))
          throw new Place(graph, node).refuse(`is read by its output ${i} ('${old.name}')`);
        return;
      }
      [own.dtype, own.dims] = [old.dtype, old.dims];
      if (graph.outputs.includes(old)) [own.name, old.name] = [old.name, own.name];
      graph.replace(old, own);
    });
    node.setInputs([]);
  }
  if (!composite.length) return;
  const gone = new Set(composite);
  graph.removeNodes(gone);
  graph.sort();
}

const layerNormalization = (p: Place, x: Value, scale: Input, shift: Input, epsilon: number): Value =>
  p.op('LayerNormalization', [x, scale, shift], { axis: -1, epsilon: float(p.node.float('epsilon', epsilon)) });

/** x / sqrt(mean(x^2) + eps) * scale over the axes from the given one on. */
function rootMeanSquare(p: Place, x: Value, scale: Input, axis: number): Value {
  if (axis !== -1 && axis !== (x.dims?.length ?? 0) - 1) throw p.refuse(`normalises from axis ${axis} on`);
  const square = p.op('ReduceMean', [p.op('Mul', [x, x]), p.ints(-1)], { keepdims: 1 });
  const root = p.op('Sqrt', [p.op('Add', [square, p.number(p.node.float('epsilon', 1e-5))])]);
  const normal = p.op('Div', [x, root]);
  return scale ? p.op('Mul', [normal, scale]) : normal;
}

/**
 * A convolution as a sum of products, one per kernel tap, each with its slice of the input.
 * W [M, C / G, K..], x [N, C, S..].
 */
function convolution(p: Place): Value {
  const [given, kernel, bias] = [p.input(0) as Value, p.input(1) as Value, p.input(2)];
  const dims = kernel.dims ?? [];
  if (!dims.length || !dims.every((d) => typeof d === 'number')) throw p.refuse('has a kernel whose size is not known');
  const [outputs, within, ...sizes] = dims as number[];
  const rank = sizes.length;
  const spatial = sizes.map((_, i) => i + 2);
  const every = (value: number): number[] => sizes.map(() => value);
  const [strides, dilations] = ['strides', 'dilations'].map((name) => p.node.ints(name) ?? every(1));
  if (!['NOTSET', 'VALID'].includes(p.node.string('auto_pad', 'NOTSET'))) throw p.refuse('pads by itself');
  const pads = p.node.ints('pads') ?? [...every(0), ...every(0)];
  const padding = [0, 0, ...pads.slice(0, rank), 0, 0, ...pads.slice(rank)];
  const x = pads.some(Boolean) ? p.op('Pad', [given, p.ints(...padding)]) : given;
  const groups = p.node.int('group', 1);
  const one = within === 1 && outputs === groups; // depthwise
  const taps = sizes.reduce((a, b) => a * b, 1);
  // [K, G, M / G, C / G], or [K, M, 1..] if depthwise
  const perTap = p.op('Transpose', [p.op('Reshape', [kernel, p.ints(groups, outputs / groups, within, taps)])], {
    perm: [3, 0, 1, 2],
  });
  const shaped = one ? p.op('Reshape', [perTap, p.ints(taps, outputs, ...every(1))]) : perTap;
  const weights = taps === 1 ? [shaped] : p.ops('Split', [shaped], taps, { axis: 0, num_outputs: taps });
  let met = x;
  const parts = weights.map((weight, tap) => {
    const at = sizes.map((size, i) => Math.floor(tap / sizes.slice(i + 1).reduce((a, b) => a * b, 1)) % size);
    const starts = at.map((k, i) => k * dilations[i]);
    const ends = at.map((k, i) => (k - sizes[i] + 1) * dilations[i] || Number.MAX_SAFE_INTEGER);
    if (taps > 1 || strides.some((s) => s > 1))
      met = p.op('Slice', [x, p.ints(...starts), p.ints(...ends), p.ints(...spatial), p.ints(...strides)]);
    return one
      ? p.op('Mul', [met, weight])
      : p.op('MatMul', [weight, p.op('Reshape', [met, p.ints(0, groups, within, -1)])]);
  });
  let sum = parts.reduce((a, b) => p.op('Add', [a, b]));
  if (!one) {
    const shape = p.op('Shape', [met]);
    const [texts, rest] = [p.ints(0), p.ints(...spatial)].map((places) => p.op('Gather', [shape, places]));
    sum = p.op('Reshape', [sum, p.op('Concat', [texts, p.ints(outputs), rest], { axis: 0 })]);
  }
  return bias ? p.op('Add', [sum, p.op('Reshape', [bias, p.ints(outputs, ...every(1))])]) : sum;
}

/** Sums and normalises word, position and type embeddings; also the mask's row sums. */
function embedLayerNormalization(p: Place): (Value | null)[] {
  const [ids, types, words, positions, segments, scale, shift, mask, given] = Array.from({ length: 9 }, (_, i) =>
    p.input(i),
  );
  const length = p.op('Gather', [p.op('Shape', [ids]), p.ints(1)]);
  const scalar = (v: Value): Value => p.op('Squeeze', [v, p.ints(0)]);
  const places =
    given ?? p.op('Unsqueeze', [p.op('Range', [scalar(p.ints(0)), scalar(length), scalar(p.ints(1))]), p.ints(0)]);
  let sum = p.op('Add', [p.op('Gather', [words, ids]), p.op('Gather', [positions, places])]);
  if (types && segments) sum = p.op('Add', [sum, p.op('Gather', [segments, types])]);
  const lengths = mask ? p.op('ReduceSum', [mask, p.ints(1)], { keepdims: 0 }) : null;
  return [layerNormalization(p, sum, scale, shift, 1e-12), lengths, sum];
}

/** [B, L, H d] as [B, H, L, d]. */
const heads = (p: Place, x: Value, count: number): Value =>
  p.op('Transpose', [p.op('Reshape', [x, p.ints(0, 0, count, -1)])], { perm: [0, 2, 1, 3] });

/** softmax(q k^T scale + bias + mask) v over [B, H, L, d]; without a scale it is 1 / sqrt d. */
function attend(
  p: Place,
  [q, k, v]: readonly Value[],
  options: { scale?: number; bias?: Input; keep?: Input; fill?: number },
): Value {
  const product = p.op('MatMul', [q, p.op('Transpose', [k], { perm: [0, 1, 3, 2] })]);
  const width = (): Value =>
    p.op('Cast', [p.op('Gather', [p.op('Shape', [q]), p.ints(3)])], { to: onnxType('float32') });
  let scores = options.scale ? p.times(product, options.scale) : p.op('Div', [product, p.op('Sqrt', [width()])]);
  scores = p.sum(scores, options.bias);
  if (options.keep) scores = p.op('Where', [options.keep, scores, p.number(options.fill ?? -3.4028234663852886e38)]);
  return p.op('MatMul', [p.op('Softmax', [scores], { axis: -1 }), v]);
}

const merged = (p: Place, x: Value): Value =>
  p.op('Reshape', [p.op('Transpose', [x], { perm: [0, 2, 1, 3] }), p.ints(0, 0, -1)]);

/** ONNX Runtime's Attention: queries, keys and values come from one product with packed weights. */
function packedAttention(p: Place): Value {
  if (p.node.int('unidirectional', 0)) throw p.refuse('looks one way');
  if (p.node.int('do_rotary', 0) || p.input(4) || p.input(6)) throw p.refuse('uses rotary positions or a past');
  const [x, weights, bias, mask] = [0, 1, 2, 3].map((i) => p.input(i));
  const all = p.sum(p.op('MatMul', [x, weights]), bias);
  const widths = p.node.ints('qkv_hidden_sizes');
  const parts = widths
    ? p.ops('Split', [all, p.ints(...widths)], 3, { axis: -1 })
    : p.ops('Split', [all], 3, { axis: -1, num_outputs: 3 });
  const count = p.node.int('num_heads', 1);
  const split = parts.map((v) => heads(p, v, count));
  return merged(p, attend(p, split, { scale: p.node.float('scale', 0), bias: p.input(5), ...keep(p, mask, split[1]) }));
}

function multiHeadAttention(p: Place): Value {
  const [bias, mask] = [p.input(3), p.input(4)];
  const given = [0, 1, 2].map((i) => p.input(i));
  if (given.some((v) => !v)) throw p.refuse('packs keys and values');
  if (p.input(6) || p.node.int('unidirectional', 0)) throw p.refuse('uses a past or looks one way');
  const biases = bias ? p.ops('Split', [bias], 3, { axis: 0, num_outputs: 3 }) : [];
  const count = p.node.int('num_heads', 1);
  const split = (given as Value[]).map((v, i) => heads(p, p.sum(v, biases[i]), count));
  return merged(p, attend(p, split, { scale: p.node.float('scale', 0), bias: p.input(5), ...keep(p, mask, split[1]) }));
}

/** A mask of ONNX Runtime's attentions as booleans over [B, 1, 1, L]: [B] counts the tokens, [B, L] marks them. */
function keep(p: Place, mask: Input, keys: Value): { keep?: Value; fill?: number } {
  if (!mask) return {};
  const fill = p.node.float('mask_filter_value', -10000);
  const rank = rankOf(mask);
  if (rank === 2) {
    const marks = p.op('Cast', [mask], { to: onnxType('bool') });
    return { keep: p.op('Unsqueeze', [marks, p.ints(1, 2)]), fill };
  }
  if (rank !== 1) throw p.refuse(`takes a mask of ${rank ?? 'unknown'} dimensions`);
  const scalar = (v: Value): Value => p.op('Squeeze', [v, p.ints(0)]);
  const length = p.op('Gather', [p.op('Shape', [keys]), p.ints(2)]);
  const places = p.op('Range', [scalar(p.ints(0)), scalar(length), scalar(p.ints(1))]);
  const counts = p.op('Unsqueeze', [p.op('Cast', [mask], { to: onnxType('int64') }), p.ints(1, 2, 3)]);
  return { keep: p.op('Less', [places, counts]), fill };
}

function rankOf(v: Value): number | undefined {
  if (v.dims) return v.dims.length;
  const made = v.producer;
  const [from] = made?.inputs ?? [];
  if (!made || !from) return undefined;
  if (made.op === 'Cast' || made.op === 'Identity') return rankOf(from);
  if (made.op === 'ReduceSum' && made.int('keepdims', 1) === 0) return (rankOf(from) ?? 2) - 1;
  return made.op === 'EmbedLayerNormalization' ? 1 : undefined;
}

const boolean = new Set('And Or Xor Not Equal Greater GreaterOrEqual Less LessOrEqual IsNaN'.split(' '));

/** ONNX's Attention (opset 23). */
function attention(p: Place): Value {
  if (p.node.int('is_causal', 0) || p.node.float('softcap', 0)) throw p.refuse('is causal or caps its scores');
  if (p.input(4) || p.input(5) || p.node.outputs.slice(1).some((v) => v.readers.size)) throw p.refuse('uses a past');
  const [own, others] = [p.node.int('q_num_heads', 0), p.node.int('kv_num_heads', 0)];
  if (own !== others) throw p.refuse('shares keys between heads');
  const split = [0, 1, 2].map((i) => (own ? heads(p, p.input(i) as Value, own) : (p.input(i) as Value)));
  const mask = p.input(3);
  const marks = mask?.dtype === 'bool' || boolean.has(mask?.producer?.op ?? '');
  const out = attend(p, split, { scale: p.node.float('scale', 0), ...(marks ? { keep: mask } : { bias: mask }) });
  return own ? merged(p, out) : out;
}

/** x cos + rotate(x) sin, where the halves (a, b) of each head rotate to (-b, a). */
function rotary(p: Place, cos: Input, sin: Input, positions: Input, count: number): Value {
  const x = p.input(0) as Value;
  const half = cos?.dims?.[cos.dims.length - 1];
  const turning = p.node.int('rotary_embedding_dim', 0); // 0: the whole head
  if (p.node.int('interleaved', 0)) throw p.refuse('interleaves its halves');
  if (positions?.dims?.length === 1) throw p.refuse('takes one position for all texts');
  // PyTorch's exporter states the number of heads also for four dimensions.
  if (!x.dims && count && !p.node.domain) throw p.refuse('has an input whose dimensions are not known');
  const rank = x.dims?.length ?? (count ? 3 : 4);
  if (rank === 3 && !count && (typeof half !== 'number' || turning)) throw p.refuse('has heads of a width not known');
  const at = (table: Input): Value =>
    p.op('Unsqueeze', [positions ? p.op('Gather', [table, positions]) : table, p.ints(rank === 3 ? 2 : 1)]);
  const shape = count ? [0, 0, count, -1] : [0, 0, -1, 2 * (half as number)];
  const heads = rank === 3 ? p.op('Reshape', [x, p.ints(...shape)]) : x;
  const part = (from: number, to: number): Value =>
    p.op('Slice', [heads, p.ints(from), p.ints(to), p.ints(-1), p.ints(1)]);
  const partly = turning !== 0 && heads.dims?.[3] !== turning;
  const [a, b] = p.ops('Split', [partly ? part(0, turning) : heads], 2, { axis: -1, num_outputs: 2 });
  const [c, s] = [at(cos), at(sin)];
  const low = p.op('Sub', [p.op('Mul', [a, c]), p.op('Mul', [b, s])]);
  const high = p.op('Add', [p.op('Mul', [b, c]), p.op('Mul', [a, s])]);
  const still = partly ? [part(turning, Number.MAX_SAFE_INTEGER)] : [];
  const turned = p.op('Concat', [low, high, ...still], { axis: -1 });
  return rank === 3 ? p.op('Reshape', [turned, p.ints(0, 0, -1)]) : turned;
}
