/** @file Options of every architecture for its conformance tests, and what it computes, in plain loops. */
import {
  add,
  dot,
  fullAttention,
  gelu,
  linear,
  type Matrix,
  norm,
  numbers,
  type PlainModel,
  softmax,
  type Weights,
} from './plain.ts';

type Parts = Pick<PlainModel, 'feedForward' | 'attend' | 'stack'>;

export interface Case {
  options: Record<string, unknown>;
  plain(weights: Weights): Partial<Parts>;
}

/** The feed-forward network as it was, with another activation of a token's hidden units. */
const dense =
  (activation: (units: readonly number[]) => number[], suffix = '') =>
  (weights: Weights) =>
  (x: Matrix, layer: number): Matrix =>
    linear(
      linear(x, weights, `encoder.layer.${layer}.intermediate.dense`, suffix).map(activation),
      weights,
      `encoder.layer.${layer}.output.dense`,
      suffix,
    );
const each = (f: (v: number) => number) => (units: readonly number[]) => units.map(f);
export const plainFeedForward = dense(each(gelu));
const positive = each((v) => Math.max(0, v));
const largest = (keep: number) => (units: readonly number[]) => {
  const least = [...positive(units)].sort((a, b) => b - a)[keep - 1];
  return positive(units).map((v) => (v >= least ? v : 0));
};

/** sum_e g_e FFN_e(x) of given gates [L][E]. */
const mixture = (weights: Weights, layer: number, x: Matrix, gates: Matrix): Matrix =>
  gates[0]
    .map((_, e) => dense(each(gelu), `.expert${e}`)(weights)(x, layer).map((row, t) => row.map((v) => v * gates[t][e])))
    .reduce(add);

export function logits(weights: Weights, layer: number, x: Matrix): Matrix {
  const { dims, data } = numbers(weights, `router.${layer}`);
  return x.map((row) =>
    Array.from({ length: dims[1] }, (_, e) => row.reduce((s, v, i) => s + v * data[i * dims[1] + e], 0)),
  );
}

const byToken = (chosen: number) => (weights: Weights) => ({
  feedForward: (x: Matrix, layer: number) =>
    mixture(
      weights,
      layer,
      x,
      logits(weights, layer, x).map((row) => {
        const best = row
          .map((_, e) => e)
          .sort((a, b) => row[b] - row[a])
          .slice(0, chosen);
        const share = softmax(best.map((e) => row[e]));
        return row.map((_, e) => (best.includes(e) ? share[best.indexOf(e)] : 0));
      }),
    ),
});

/** Which tokens each expert takes, and the gates [L][E]: probabilities of those chosen, divided by their sum. */
export function expertChoice(scores: Matrix, capacity: number): { taken: number[][]; gates: Matrix } {
  const [n, E] = [scores.length, scores[0].length];
  const k = Math.min(n, Math.ceil((n * capacity) / E - 1e-4));
  const taken = scores[0].map((_, e) =>
    scores
      .map((_, t) => t)
      .sort((a, b) => scores[b][e] - scores[a][e])
      .slice(0, k),
  );
  const gates = scores.map((row, t) => {
    const own = row.map((s, e) => (taken[e].includes(t) ? s : 0));
    const sum = Math.max(
      1e-9,
      own.reduce((a, b) => a + b, 0),
    );
    return own.map((v) => v / sum);
  });
  return { taken, gates };
}

const byExpert = (capacity: number) => (weights: Weights) => ({
  feedForward: (x: Matrix, layer: number) =>
    mixture(weights, layer, x, expertChoice(logits(weights, layer, x).map(softmax), capacity).gates),
});

/** A* for the mean of |x + y|^2 over pairs, as methods of the paper have it. */
export function bestA(phi: number, d: number): number {
  const rho = (Math.sqrt((2 * phi + d) ** 2 + 8 * d * phi) - 2 * phi - d) / (4 * phi);
  return (1 - 1 / rho) / 8;
}

const favor = (weights: Weights) => ({
  attend(q: Matrix, k: Matrix, v: Matrix, layer: number): Matrix {
    const { dims, data } = numbers(weights, `random_features.${layer}`);
    const [d, M] = dims;
    const w = Array.from({ length: M }, (_, m) => Array.from({ length: d }, (_, i) => data[i * M + m]));
    const scaled = (x: Matrix): Matrix => x.map((row) => row.map((value) => value / d ** 0.25));
    const [xs, ys] = [scaled(q), scaled(k)];
    let phi = 0;
    for (const x of xs) for (const y of ys) phi += dot(x, x) + dot(y, y) + 2 * dot(x, y);
    const A = bestA(phi / (xs.length * ys.length), d);
    const feature = (x: number[], own: number[]): number =>
      (1 - 4 * A) ** (d / 4) * Math.exp(A * dot(own, own) + Math.sqrt(1 - 4 * A) * dot(own, x) - dot(x, x) / 2);
    return xs.map((x) => {
      const kernel = ys.map((y) => w.reduce((s, own) => s + feature(x, own) * feature(y, own), 0));
      const sum = kernel.reduce((a, b) => a + b, 0);
      return v[0].map((_, c) => kernel.reduce((s, share, j) => s + share * v[j][c], 0) / sum);
    });
  },
});

const tree = (depth: number) => (weights: Weights) => ({
  attend(q: Matrix, k: Matrix, v: Matrix, layer: number): Matrix {
    const out: Matrix = q.map(() => []);
    const halves = (x: Matrix, at: number[], level: number): [number[], number[]] => {
      const direction = Array.from(numbers(weights, `tree_direction.${layer}.${level}`).data);
      const sorted = [...at].sort((a, b) => dot(x[b], direction) - dot(x[a], direction));
      const first = Math.ceil(sorted.length / 2);
      return [sorted.slice(0, first), sorted.slice(first)];
    };
    const visit = (queries: number[], keys: number[], level: number): void => {
      if (level === depth) {
        if (!queries.length) return;
        const made = fullAttention(
          queries.map((i) => q[i]),
          keys.map((i) => k[i]),
          keys.map((i) => v[i]),
        );
        queries.forEach((i, row) => {
          out[i] = made[row];
        });
        return;
      }
      const [a, b] = [halves(q, queries, level), halves(k, keys, level)];
      visit(a[0], b[0], level + 1);
      visit(a[1], b[1], level + 1);
    };
    const all = q.map((_, i) => i);
    visit(all, all, 0);
    return out;
  },
});

/** PreNorm layers, attention of normalized ReLU, no biases behind the blocks; two heads, two layers. */
const scaleInvariant = (weights: Weights) => ({
  stack(embeddings: Matrix): Matrix {
    const times = (x: Matrix, name: string): Matrix => {
      const { dims, data } = numbers(weights, name);
      return x.map((row) =>
        Array.from({ length: dims[1] }, (_, c) => row.reduce((s, v, i) => s + v * data[i * dims[1] + c], 0)),
      );
    };
    const turned = (x: Matrix, name: string): Matrix => {
      const { dims, data } = numbers(weights, `${name}.weight`);
      return x.map((row) =>
        Array.from({ length: dims[0] }, (_, o) => row.reduce((s, v, i) => s + v * data[o * dims[1] + i], 0)),
      );
    };
    let x = times(embeddings, 'scale_invariant.input');
    for (const layer of [0, 1]) {
      const name = `encoder.layer.${layer}`;
      const gain = Array.from(
        numbers(weights, layer ? 'encoder.layer.0.output.LayerNorm.weight.fixed' : 'scale_invariant.gain').data,
      );
      const shift = Array.from(
        numbers(weights, layer ? 'encoder.layer.0.output.LayerNorm.bias.fixed' : 'scale_invariant.shift').data,
      );
      const z = standard(x).map((row) => row.map((v, i) => v * gain[i] + shift[i]));
      const [q, k, v] = ['query', 'key', 'value'].map((p) => linear(z, weights, `${name}.attention.self.${p}`));
      const half = (m: Matrix, h: number): Matrix =>
        m.map((row) => row.slice((h * row.length) / 2, ((h + 1) * row.length) / 2));
      const mixed = [0, 1].map((h) => {
        const [keys, values] = [half(k, h), half(v, h)];
        return half(q, h).map((row) => {
          const scores = keys.map((key) => Math.max(0, dot(row, key) / Math.sqrt(row.length)));
          const sum = Math.max(
            1e-6,
            scores.reduce((a, b) => a + b, 0),
          );
          return values[0].map((_, c) => scores.reduce((s, share, j) => s + share * values[j][c], 0) / sum);
        });
      });
      const context = x.map((_, t) => mixed.flatMap((m) => m[t]));
      x = add(x, turned(context, `${name}.attention.output.dense`));
      const inner = linear(
        norm(x, weights, `${name}.attention.output.LayerNorm`, '.fixed'),
        weights,
        `${name}.intermediate.dense`,
      );
      x = add(x, turned(inner.map(positive), `${name}.output.dense`));
    }
    return norm(x, weights, 'encoder.layer.1.output.LayerNorm');
  },
});
const standard = (x: Matrix): Matrix =>
  x.map((row) => {
    const mean = row.reduce((a, b) => a + b, 0) / row.length;
    const deviation = Math.sqrt(row.reduce((a, b) => a + (b - mean) ** 2, 0) / row.length + 1e-12);
    return row.map((v) => (v - mean) / deviation);
  });

/** At least one case a member of the registry. */
export const cases: Readonly<Record<string, readonly Case[]>> = {
  experts: [
    { options: { experts: 4 }, plain: byToken(2) },
    { options: { experts: 3, chosen: 1 }, plain: byToken(1) },
    { options: { experts: 4, routing: 'expert' }, plain: byExpert(2) },
    { options: { experts: 2, routing: 'expert', capacity: 2 }, plain: byExpert(2) },
  ],
  relu: [{ options: {}, plain: (w) => ({ feedForward: dense(positive)(w) }) }],
  'top-k': [
    { options: { keep: 5 }, plain: (w) => ({ feedForward: dense(largest(5))(w) }) },
    { options: { keep: 32 }, plain: (w) => ({ feedForward: dense(positive)(w) }) },
  ],
  'scale-invariant': [{ options: {}, plain: scaleInvariant }],
  favor: [{ options: { features: 6 }, plain: favor }],
  tree: [
    { options: { depth: 0 }, plain: () => ({}) },
    { options: { depth: 2 }, plain: tree(2) },
  ],
};
