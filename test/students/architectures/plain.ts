/** @file A small BERT computed in plain loops, with other feed-forward networks and attention, for the tests of architectures. */
import type { Tensor } from '../../../engine/graph/tensor.ts';

/** [rows][columns] */
export type Matrix = number[][];
export type Weights = ReadonlyMap<string, Tensor>;

export interface PlainModel {
  weights: Weights;
  layers: number;
  heads: number;
  /** [L, D] to [L, D] */
  feedForward(x: Matrix, layer: number): Matrix;
  /** [L, d] of one head each to [L, d]. */
  attend(q: Matrix, k: Matrix, v: Matrix, layer: number): Matrix;
  /** Whole layers in another order; [L, D] to [L, D] of embeddings. */
  stack?(embeddings: Matrix): Matrix;
}

export const numbers = (weights: Weights, name: string): { dims: readonly number[]; data: ArrayLike<number> } => {
  const found = weights.get(name);
  if (!found) throw new Error(`no weight ${name}`);
  return found as { dims: readonly number[]; data: ArrayLike<number> };
};

/** x W^T + b, W [outputs, inputs] as torch.nn.Linear keeps it. */
export function linear(x: Matrix, weights: Weights, name: string, suffix = ''): Matrix {
  const { dims, data } = numbers(weights, `${name}.weight${suffix}`);
  const bias = numbers(weights, `${name}.bias${suffix}`).data;
  const [outputs, inputs] = dims;
  return x.map((row) =>
    Array.from({ length: outputs }, (_, o) => {
      let sum = bias[o];
      for (let i = 0; i < inputs; i++) sum += row[i] * data[o * inputs + i];
      return sum;
    }),
  );
}

export const add = (a: Matrix, b: Matrix): Matrix => a.map((row, i) => row.map((v, k) => v + b[i][k]));
export const dot = (a: readonly number[], b: readonly number[]): number => a.reduce((s, v, i) => s + v * b[i], 0);
export const softmax = (row: readonly number[]): number[] => {
  const most = Math.max(...row);
  const e = row.map((v) => Math.exp(v - most));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / sum);
};

export function norm(x: Matrix, weights: Weights, name: string, suffix = ''): Matrix {
  const [scale, shift] = ['weight', 'bias'].map((p) => numbers(weights, `${name}.${p}${suffix}`).data);
  return x.map((row) => {
    const mean = row.reduce((a, b) => a + b, 0) / row.length;
    const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / row.length;
    return row.map((v, i) => ((v - mean) / Math.sqrt(variance + 1e-12)) * scale[i] + shift[i]);
  });
}

/** erf by its series. */
function erf(x: number): number {
  let [sum, term] = [0, x];
  for (let n = 0; n < 60; n++) {
    sum += term / (2 * n + 1);
    term *= (-x * x) / (n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}
export const gelu = (x: number): number => (x * (1 + erf(x / Math.SQRT2))) / 2;

export function fullAttention(q: Matrix, k: Matrix, v: Matrix): Matrix {
  return q.map((row) => {
    const p = softmax(k.map((key) => dot(row, key) / Math.sqrt(row.length)));
    return v[0].map((_, c) => p.reduce((s, share, j) => s + share * v[j][c], 0));
  });
}

/** Token vectors [L, D] of one text without padding. */
export function encode(ids: readonly number[], model: PlainModel): Matrix {
  const { weights, heads } = model;
  const row = (name: string, i: number): number[] => {
    const { dims, data } = numbers(weights, `embeddings.${name}.weight`);
    return Array.from({ length: dims[1] }, (_, c) => data[i * dims[1] + c]);
  };
  let x = norm(
    ids.map((id, at) =>
      row('word_embeddings', id).map(
        (v, c) => v + row('token_type_embeddings', 0)[c] + row('position_embeddings', at)[c],
      ),
    ),
    weights,
    'embeddings.LayerNorm',
  );
  if (model.stack) return model.stack(x);
  for (let i = 0; i < model.layers; i++) {
    const name = `encoder.layer.${i}`;
    const [q, k, v] = ['query', 'key', 'value'].map((part) => linear(x, weights, `${name}.attention.self.${part}`));
    const width = x[0].length / heads;
    const part = (m: Matrix, h: number): Matrix => m.map((r) => r.slice(h * width, (h + 1) * width));
    const mixed = Array.from({ length: heads }, (_, h) => model.attend(part(q, h), part(k, h), part(v, h), i));
    const context = x.map((_, t) => mixed.flatMap((m) => m[t]));
    const out = linear(context, weights, `${name}.attention.output.dense`);
    const attended = norm(add(out, x), weights, `${name}.attention.output.LayerNorm`);
    x = norm(add(model.feedForward(attended, i), attended), weights, `${name}.output.LayerNorm`);
  }
  return x;
}
