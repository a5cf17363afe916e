/** @file What a static tower knows of word order: functions of neighbouring tokens, added to the token vectors. */

import { constant, type Expr } from '../engine/expressions/expr.ts';
import { Random } from '../math/random.ts';

interface Weight {
  name: string;
  dims: readonly number[];
  data: Float32Array;
}

/** Each order adds nothing before training: what maps back to the embeddings' width begins at 0. */
interface Order {
  /** [D, k] maps of a token's vector: folded into the token's row when served. */
  maps: Weight[];
  /** Weights that are not a function of one token. */
  weights: Weight[];
  /**
   * @param parts [B, L, k] a token's vector through each map
   * @param at `present` [B, L, 1] 1 for a token of the text, 0 for padding and special tokens
   * @returns [B, L, D], 0 where no token is present
   */
  add(parts: readonly Expr[], weights: readonly Expr[], at: { ids: Expr; present: Expr }): Expr | undefined;
}

interface OrderOptions {
  width: number;
  buckets: number;
  seed: number;
}

export const orderNames = ['none', 'attention', 'bigrams', 'convolution'] as const;
export type StaticOrder = (typeof orderNames)[number];

export const orders: Record<StaticOrder, (D: number, options: OrderOptions) => Order> = {
  none: () => ({ maps: [], weights: [], add: () => undefined }),

  /** One layer of self-attention with a learned bias for each distance: which tokens count depends on the others. */
  attention(D, { width, seed }) {
    const size = Math.max(1, Math.floor(width / HEADS));
    return {
      maps: [
        normal('static.query', [D, HEADS * size], D, seed),
        normal('static.key', [D, HEADS * size], D, seed),
        normal('static.value', [D, width], D, seed),
      ],
      weights: [zeros('static.distances', [2 * FARTHEST + 1, HEADS]), zeros('static.output', [width, D])],
      add([query, key, value], [distances, output], { present }) {
        const heads = (e: Expr): Expr => e.reshape(0, 0, HEADS, -1).transpose(0, 2, 1, 3); // [B, H, L, k]
        const position = present.squeeze(-1).op('CumSum', [constant(present.graph, 'int64', [], [1])]); // [B, L]
        const distance = position
          .unsqueeze(2)
          .sub(position.unsqueeze(1))
          .max(-FARTHEST)
          .min(FARTHEST)
          .add(FARTHEST)
          .cast('int64'); // [B, L, L]
        const bias = distances.gather(distance).transpose(0, 3, 1, 2); // [B, H, L, L]
        const scores = heads(query)
          .matmul(heads(key).transpose(0, 1, 3, 2))
          .mul(1 / Math.sqrt(size))
          .add(bias);
        const seen = present.squeeze(-1).unsqueeze(1, 2).greater(0); // [B, 1, 1, L]
        const share = seen.where(scores, -1e9).softmax();
        const read = share.matmul(heads(value)).transpose(0, 2, 1, 3).reshape(0, 0, -1); // [B, L, width]
        return read.matmul(output).mul(present);
      },
    };
  },

  /** A vector for each pair of neighbours, hashed. */
  bigrams: (D, { width, buckets }) => ({
    maps: [],
    weights: [zeros('static.bigrams', [buckets, width]), normal('static.widen', [width, D], width, 0)],
    add(_, [table, widen], { ids, present }) {
      const hash = shifted(ids, 1)
        .mul(constant(ids.graph, 'int64', [], [HASH_FACTOR]))
        .add(ids)
        .op('Mod', [constant(ids.graph, 'int64', [], [buckets])]);
      return table
        .gather(hash)
        .mul(present.mul(shifted(present, 1)))
        .matmul(widen);
    },
  }),

  /** tanh of what a token and its two neighbours say together: a window of three with one hidden layer. */
  convolution: (D, { width, seed }) => ({
    maps: ['before', 'here', 'after'].map((name) => normal(`static.${name}`, [D, width], D, seed)),
    weights: [zeros('static.output', [width, D])],
    add: ([before, here, after], [output], { present }) =>
      shifted(before.mul(present), 1)
        .add(here)
        .add(shifted(after.mul(present), -1))
        .tanh()
        .matmul(output)
        .mul(present),
  }),
};

const HEADS = 4;
/** Distances beyond this count as this. */
const FARTHEST = 8;
/** A prime larger than vocabularies are. */
const HASH_FACTOR = 1_000_003;

const zeros = (name: string, dims: readonly number[]): Weight => ({
  name,
  dims,
  data: new Float32Array(dims.reduce((a, b) => a * b)),
});

function normal(name: string, dims: readonly number[], fanIn: number, seed: number): Weight {
  const random = Random.of(seed, name);
  return { name, dims, data: zeros(name, dims).data.map(() => random.normal() / Math.sqrt(fanIn)) };
}

/** Along the sequence: the value of the token before (1) or after (-1), 0 at the edge. */
function shifted(e: Expr, by: 1 | -1): Expr {
  const edge = e.slice(0, 1, 1);
  const nothing = edge.sub(edge);
  return by > 0 ? nothing.concat([e.slice(0, -1, 1)], 1) : e.slice(1, Number.MAX_SAFE_INTEGER, 1).concat([nothing], 1);
}
