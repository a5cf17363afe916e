/** @file What a static tower knows of word order: functions of neighbouring tokens, added to the token vectors. */

import { constant, type Expr } from '../engine/expressions/expr.ts';
import { Random } from '../math/random.ts';

interface Weight {
  name: string;
  dims: readonly number[];
  data: Float32Array;
}

/** What the teacher makes of each token alone, [V, D]; rows of special tokens are 0. */
export interface TokenTable {
  dimensions: number;
  data: Float32Array;
}

/** Where tokens stand, and what they are without word order. */
interface Place {
  /** [B, L] */
  ids: Expr;
  /** [B, L, 1] 1 for a token of the text, 0 for padding and special tokens. */
  present: Expr;
  /** [B, L, D] each token's own vector, to which the order adds. */
  own: Expr;
}

/** Each order adds nothing before training: what maps back to the embeddings' width, or weighs it, begins at 0. */
export interface Order {
  /** [D, k] maps of a token's vector: folded into the token's row when served. */
  maps: Weight[];
  /** [V, k] numbers of each token: a part of its row when served. */
  rows: Weight[];
  /** Weights that are not a function of one token. */
  weights: Weight[];
  /** Whether what it adds is a multiple of the token's own vector, so that a map of both is the map of their sum. */
  scales?: true;
  /**
   * @param parts [B, L, k] a token's vector through each map, then its numbers of each of `rows`
   * @returns [B, L, D], 0 where no token is present
   */
  add(parts: readonly Expr[], weights: readonly Expr[], at: Place): Expr | undefined;
}

interface OrderOptions {
  width: number;
  buckets: number;
  rank: number;
  seed: number;
}

export const orderNames = ['none', 'attention', 'bigrams', 'convolution', 'gate'] as const;
export type StaticOrder = (typeof orderNames)[number];

export const orders: Record<StaticOrder, (table: TokenTable, options: OrderOptions) => Order> = {
  none: () => ({ maps: [], rows: [], weights: [], add: () => undefined }),

  /** One layer of self-attention with a learned bias for each distance: which tokens count depends on the others. */
  attention({ dimensions: D }, { width, seed }) {
    const size = Math.max(1, Math.floor(width / HEADS));
    return {
      maps: [
        normal('static.query', [D, HEADS * size], D, seed),
        normal('static.key', [D, HEADS * size], D, seed),
        normal('static.value', [D, width], D, seed),
      ],
      rows: [],
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
  bigrams: ({ dimensions: D }, { width, buckets }) => ({
    maps: [],
    rows: [],
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
  convolution: ({ dimensions: D }, { width, seed }) => ({
    maps: ['before', 'here', 'after'].map((name) => normal(`static.${name}`, [D, width], D, seed)),
    rows: [],
    weights: [zeros('static.output', [width, D])],
    add: ([before, here, after], [output], { present }) =>
      shifted(before.mul(present), 1)
        .add(here)
        .add(shifted(after.mul(present), -1))
        .tanh()
        .matmul(output)
        .mul(present),
  }),

  /**
   * How much a token counts, by its two neighbours: its vector is multiplied by
   *
   *     1 + tanh(<a(t), b(token before)> + <c(t), d(token after)>)
   *
   * with a, c, b, d of `rank` numbers a token each. It is 1 before training, since a and c begin at 0, and from 0 to 2 whatever
   * a pair of tokens says that training has not seen. b and d begin as a random projection of the token's vector, so that
   * tokens of like meaning say alike from the start.
   */
  gate: (table, { rank, seed }) => ({
    maps: [],
    rows: [
      { name: 'static.gate', dims: [table.data.length / table.dimensions, 4 * rank], data: spoken(table, rank, seed) },
    ],
    weights: [],
    scales: true,
    add([numbers], _, { present, own }) {
      const [a, c, b, d] = [0, 1, 2, 3].map((k) => numbers.slice(k * rank, (k + 1) * rank, 2)); // [B, L, rank]
      return a
        .mul(shifted(b.mul(present), 1))
        .add(c.mul(shifted(d.mul(present), -1)))
        .sum([-1], true)
        .tanh()
        .mul(present)
        .mul(own);
    },
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

/** [V, 4 rank]: 0 for what a token hears from its neighbours, projections of its direction for what it says to them. */
function spoken({ dimensions: D, data }: TokenTable, rank: number, seed: number): Float32Array {
  const V = data.length / D;
  // Columns of length about 1 / sqrt(rank), times a direction: what a token says has a length of about 1.
  const { data: map } = normal('static.gate', [D, 2 * rank], rank, seed);
  const out = new Float32Array(V * 4 * rank);
  for (let t = 0; t < V; t++) {
    const row = data.subarray(t * D, (t + 1) * D);
    const length = Math.sqrt(row.reduce((s, x) => s + x * x, 0)) || 1;
    const said = out.subarray((4 * t + 2) * rank, (4 * t + 4) * rank);
    for (let i = 0; i < D; i++) for (let k = 0; k < 2 * rank; k++) said[k] += (row[i] / length) * map[i * 2 * rank + k];
  }
  return out;
}

/** Along the sequence: the value of the token before (1) or after (-1), 0 at the edge. */
function shifted(e: Expr, by: 1 | -1): Expr {
  const edge = e.slice(0, 1, 1);
  const nothing = edge.sub(edge);
  return by > 0 ? nothing.concat([e.slice(0, -1, 1)], 1) : e.slice(1, Number.MAX_SAFE_INTEGER, 1).concat([nothing], 1);
}
