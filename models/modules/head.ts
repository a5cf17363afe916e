/** @file The head between token vectors and the vector of a text: pooling, then modules of sentence-transformers. */
import type { Expr } from '../../engine/expressions/expr.ts';
import { Expr as Expression } from '../../engine/expressions/expr.ts';
import { isAverage, type Pooling, pool } from '../../engine/expressions/pooling.ts';
import { identity, type Tensor } from '../../engine/graph/tensor.ts';
import { type Activation, activations } from './activations.ts';

/** A linear layer with an activation function. */
export interface DenseModule {
  kind: 'dense';
  /** Folder of the module within the model's; its weights are named after it. */
  path: string;
  /** [out, in] */
  weight: Tensor<'float32'>;
  /** [out] */
  bias?: Tensor<'float32'>;
  activation: Activation;
}

/** Layer normalization of the text's vector; epsilon 1e-5. */
export interface LayerNormModule {
  kind: 'layer-norm';
  path: string;
  /** [D] */
  weight: Tensor<'float32'>;
  bias: Tensor<'float32'>;
}

export interface NormalizeModule {
  kind: 'normalize';
}

export type HeadModule = DenseModule | LayerNormModule | NormalizeModule;

export interface Head {
  /** Several are joined in this order. */
  pooling: readonly Pooling[];
  /** Whether tokens of the prompt are pooled too. */
  includePrompt: boolean;
  /** What follows the pooling, in order. */
  modules: readonly HeadModule[];
  /** Columns that are left of a vector which the graph itself makes; the modules hold it too. */
  dimensions?: number;
}

export const similarities = ['cosine', 'dot', 'euclidean', 'manhattan'] as const;
/** How two vectors of a model are compared. */
export type Similarity = (typeof similarities)[number];

const EPSILON = 1e-5;

/** Whether the head normalizes vectors to unit length. */
export const endsInUnit = (head: Head): boolean => head.modules.at(-1)?.kind === 'normalize';

/** Whether a head is one pooling, and perhaps scaling to unit length: what a training step does itself. */
export const isPlain = (head: Head): boolean =>
  head.pooling.length === 1 && head.includePrompt && head.modules.every((m) => m.kind === 'normalize');

/** Whether a linear map of the token vectors is the same map of what the head gives, but for scaling to unit length. */
export const isLinear = (head: Head): boolean => isPlain(head) && head.pooling.every(isAverage);

/** The head with its last scaling to unit length, or without. */
export function withUnit(head: Head, unit: boolean): Head {
  if (unit === endsInUnit(head)) return head;
  return { ...head, modules: unit ? [...head.modules, { kind: 'normalize' }] : head.modules.slice(0, -1) };
}

/**
 * A linear map after everything but the last scaling to unit length.
 * @param matrix [from, to]
 * @param name of its folder
 */
export function withMap(head: Head, matrix: Tensor<'float32'>, name = 'Dense'): Head {
  const [from, to] = matrix.dims;
  const weight = new Float32Array(from * to);
  for (let i = 0; i < from; i++) for (let k = 0; k < to; k++) weight[k * from + i] = matrix.data[i * to + k];
  const body = withUnit(head, false).modules;
  const map: DenseModule = {
    kind: 'dense',
    path: `${2 + body.length}_${name}`,
    weight: { dtype: 'float32', dims: [to, from], data: weight },
    activation: 'Identity',
  };
  return withUnit({ ...head, modules: [...body, map] }, endsInUnit(head));
}

/** The head that gives the first numbers of the vector alone. @param width of the whole vector */
export function cutHead(head: Head, width: number, dimensions: number): Head {
  if (dimensions >= width) return head;
  const body = withUnit(head, false).modules;
  const last = body.at(-1);
  if (last?.kind !== 'dense') return withMap(head, identity(width, dimensions));
  const { weight, bias } = last;
  const cut: DenseModule = {
    ...last,
    weight: { ...weight, dims: [dimensions, weight.dims[1]], data: weight.data.slice(0, dimensions * weight.dims[1]) },
    bias: bias && { ...bias, dims: [dimensions], data: bias.data.slice(0, dimensions) },
  };
  return withUnit({ ...head, modules: [...body.slice(0, -1), cut] }, endsInUnit(head));
}

/** Width of the vectors, given that of the token vectors. */
export function headWidth(head: Head, tokens: number): number {
  let width = tokens * head.pooling.length;
  for (const m of head.modules) if (m.kind === 'dense') width = m.weight.dims[0];
  return width;
}

/** Width of the token vectors, given that of the vectors. */
export function tokenWidth(head: Head, dimensions: number): number {
  const first = head.modules.find((m) => m.kind === 'dense');
  return (first?.kind === 'dense' ? first.weight.dims[1] : dimensions) / head.pooling.length;
}

/** The trainable weights of a head by the names that they have in a graph, which are sentence-transformers' own. */
export function headWeights(head: Head): Map<string, Tensor<'float32'>> {
  const found = new Map<string, Tensor<'float32'>>();
  for (const m of head.modules) {
    if (m.kind === 'normalize') continue;
    const part = m.kind === 'dense' ? 'linear' : 'norm';
    found.set(`${m.path}.${part}.weight`, m.weight);
    if (m.bias) found.set(`${m.path}.${part}.bias`, m.bias);
  }
  return found;
}

/** The head with other weights, by the names of `headWeights`; those that are not given stay. */
export function withHeadWeights(head: Head, weights: ReadonlyMap<string, Tensor>): Head {
  const given = (name: string, own: Tensor<'float32'>): Tensor<'float32'> => {
    const found = weights.get(name) as Tensor<'float32'> | undefined;
    return found ? { ...found, dims: own.dims } : own;
  };
  const modules = head.modules.map((m): HeadModule => {
    if (m.kind === 'normalize') return m;
    if (m.kind === 'layer-norm')
      return {
        ...m,
        weight: given(`${m.path}.norm.weight`, m.weight),
        bias: given(`${m.path}.norm.bias`, m.bias),
      };
    const bias = m.bias && given(`${m.path}.linear.bias`, m.bias);
    return { ...m, weight: given(`${m.path}.linear.weight`, m.weight), bias };
  });
  return { ...head, modules };
}

/**
 * @param hidden [B, L, D] token vectors
 * @param mask [B, L] int64, 1 where a token is pooled
 * @returns [B, width] the vectors that sentence-transformers' encode gives
 */
export function applyHead(hidden: Expr, mask: Expr, head: Head): Expr {
  return applyModules(pool(hidden, mask, head.pooling, !head.includePrompt), head.modules);
}

/** @param pooled [B, D] */
export function applyModules(pooled: Expr, modules: readonly HeadModule[]): Expr {
  const { graph } = pooled;
  const named = (name: string, t: Tensor): Expr => new Expression(graph, graph.constant(t, name));
  let out = pooled;
  for (const m of modules) {
    if (m.kind === 'normalize') out = out.l2Normalize();
    else if (m.kind === 'layer-norm') {
      const centred = out.sub(out.mean([-1], true));
      const scaled = centred.div(centred.square().mean([-1], true).add(EPSILON).sqrt());
      out = scaled.mul(named(`${m.path}.norm.weight`, m.weight)).add(named(`${m.path}.norm.bias`, m.bias));
    } else {
      const weight = named(`${m.path}.linear.weight`, m.weight);
      const bias = m.bias && named(`${m.path}.linear.bias`, m.bias);
      out = activations[m.activation](out.op('Gemm', bias ? [weight, bias] : [weight], { transB: 1 }));
    }
  }
  return out;
}
