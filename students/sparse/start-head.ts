/**
 * @file The head of a sparse student before training: a map from token states to the word table, so that each document starts as
 * about the words that it has.
 */
import { InputError } from '../../common/errors.ts';
import type { Tokens } from '../../data/tokenizer.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { Session } from '../../engine/runtime/session.ts';
import { cholesky, solve } from '../../math/linear-algebra.ts';
import { Random } from '../../math/random.ts';

/** The head that a masked-language model of BERT's family has: dense, GELU, LayerNorm; then products with the word table, and biases. */
export interface SparseHead {
  /** [D, D] inputs to outputs, and [D]. */
  dense: Tensor<'float32'>;
  denseBias: Tensor<'float32'>;
  /** [D] of the LayerNorm. */
  scale: Tensor<'float32'>;
  shift: Tensor<'float32'>;
  /** [V, 1] */
  bias: Tensor<'float32'>;
}

/** Above this a GELU is the identity; the LayerNorm behind it takes the constant away again. */
const OFFSET = 8;
/** Share of the mean variance of a state's dimension that is added as a penalty. */
const PENALTY = 1e-3;
/** Of the pairs of a position and another token, this share starts above 0: some three a position in a vocabulary of 30,000. */
const OPEN = 1e-4;
/** What a token's own product is above its threshold at the start: a weight of about log 3. */
const OWN = 2;
/** A special token's bias: never above 0. */
const SHUT = -1e4;
const POSITIONS = 12_000;
const SAMPLE = { positions: 256, tokens: 4096 };

/**
 * With mu the mean word vector, the dense layer is the ridge regression of (E_x - mu) / |E_x - mu| on the state of a token x, over
 * sampled texts; thresholds (the biases) are at a quantile of the cosines of other tokens, in proportion to |E_j - mu|.
 *
 * @param encoder ids to token states [R, L, D]
 * @param words [V, D]
 * @param texts tokens of sampled documents
 * @throws InputError where the texts have no token that is not special
 */
export async function startHead(
  encoder: Graph,
  words: Tensor<'float32'>,
  texts: readonly Tokens[],
  special: ReadonlySet<number>,
  seed: number,
): Promise<SparseHead> {
  const [V, D] = words.dims;
  const { centred, lengths } = centre(words);
  const { states, tokens } = await statesOf(encoder, texts, special, D);
  const n = tokens.length;
  if (!n)
    throw new InputError({
      code: 'sparse.no-tokens',
      subject: 'the documents have no token of the vocabulary',
      remedy: "check that the student's tokenizer fits the data",
    });
  const targets = new Float32Array(n * D);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < D; k++) targets[i * D + k] = centred[tokens[i] * D + k] / (lengths[tokens[i]] || 1);
  const { map, offset } = await regression(states, targets, D);

  // Directions as the LayerNorm gives them, of length sqrt(D); cosines of a sample decide thresholds and scale.
  const random = Random.of(seed, 'sparse head');
  const own: number[] = [];
  const other: number[] = [];
  const some = Int32Array.from({ length: Math.min(SAMPLE.tokens, V) }, () => random.integer(V));
  for (let s = 0; s < Math.min(SAMPLE.positions, n); s++) {
    const i = random.integer(n);
    const u = unit(states.subarray(i * D, (i + 1) * D), map, offset, D);
    const cosine = (t: number): number => {
      let dot = 0;
      for (let k = 0; k < D; k++) dot += u[k] * centred[t * D + k];
      return dot / (lengths[t] || 1);
    };
    own.push(cosine(tokens[i]));
    for (const t of some) if (t !== tokens[i] && !special.has(t)) other.push(cosine(t));
  }
  own.sort((a, b) => a - b);
  const sorted = Float64Array.from(other).sort();
  const threshold = sorted[Math.max(0, Math.floor((1 - OPEN) * sorted.length) - 1)] ?? 0;
  const above = Math.max(0.05, own[own.length >> 1] - threshold);
  const typical = Float64Array.from(tokens, (t) => lengths[t]).sort()[n >> 1] || 1;
  const gain = OWN / (Math.sqrt(D) * typical * above);
  const bias = Float32Array.from(lengths, (length, t) =>
    special.has(t) ? SHUT : -gain * Math.sqrt(D) * length * threshold,
  );
  const root = Math.sqrt(D);
  const vector = (at: (k: number) => number): Tensor<'float32'> => ({
    dtype: 'float32',
    dims: [D],
    data: Float32Array.from({ length: D }, (_, k) => at(k)),
  });
  return {
    dense: { dtype: 'float32', dims: [D, D], data: Float32Array.from(map, (w) => root * w) },
    denseBias: vector((k) => root * offset[k] + OFFSET),
    scale: vector(() => gain),
    shift: vector(() => 0),
    bias: { dtype: 'float32', dims: [V, 1], data: bias },
  };
}

/** Word vectors less their mean, and the lengths of those. */
function centre({ dims: [V, D], data }: Tensor<'float32'>): { centred: Float32Array; lengths: Float32Array } {
  const mean = new Float64Array(D);
  for (let i = 0; i < data.length; i++) mean[i % D] += data[i] / V;
  const centred = Float32Array.from(data, (x, i) => x - mean[i % D]);
  const lengths = Float32Array.from({ length: V }, (_, t) => Math.hypot(...centred.subarray(t * D, (t + 1) * D)));
  return { centred, lengths };
}

/** States of the tokens that are not special, and the tokens. */
async function statesOf(encoder: Graph, texts: readonly Tokens[], special: ReadonlySet<number>, D: number) {
  const session = await Session.load(encoder.clone(), {}, 'the encoder');
  const states: Float32Array[] = [];
  const tokens: number[] = [];
  try {
    for (const { ids, typeIds } of texts) {
      if (tokens.length >= POSITIONS) break;
      const dims = [1, ids.length];
      const whole = (data: BigInt64Array): Tensor => ({ dtype: 'int64', dims, data });
      const all: Record<string, Tensor> = {
        input_ids: whole(BigInt64Array.from(ids, BigInt)),
        attention_mask: whole(new BigInt64Array(ids.length).fill(1n)),
        token_type_ids: whole(BigInt64Array.from(typeIds, BigInt)),
      };
      const results = await session.run(Object.fromEntries(session.inputs.map((name) => [name, all[name]])));
      const rows = results[session.outputs[0]].data as Float32Array;
      for (const [l, id] of ids.entries()) {
        if (special.has(id)) continue;
        states.push(rows.slice(l * D, (l + 1) * D));
        tokens.push(id);
      }
    }
  } finally {
    await session.release();
  }
  const flat = new Float32Array(states.length * D);
  for (const [i, row] of states.entries()) flat.set(row, i * D);
  return { states: flat, tokens: Int32Array.from(tokens) };
}

/** Least squares of [n, D] targets on [n, D] states, with a penalty; products are multiplied where matrices are multiplied fast. */
async function regression(states: Float32Array, targets: Float32Array, D: number) {
  const n = states.length / D;
  const graph = new Graph(17);
  const x = new Expr(graph, graph.input('x', 'float32', ['n', D]));
  const y = new Expr(graph, graph.input('y', 'float32', ['n', D]));
  const [mx, my] = [x.mean([0], true), y.mean([0], true)];
  const turned = x.sub(mx).transpose(1, 0);
  const outputs = [turned.matmul(x.sub(mx)), turned.matmul(y.sub(my)), mx, my];
  for (const [i, o] of outputs.entries()) graph.output(o.value, `part${i}`);
  const session = await Session.load(graph, {}, 'the regression');
  const given = (data: Float32Array): Tensor => ({ dtype: 'float32', dims: [n, D], data });
  const results = await session.run({ x: given(states), y: given(targets) });
  await session.release();
  const [gram, moment, centreX, centreY] = outputs.map((_, i) => results[`part${i}`].data as Float32Array);
  const data = Float64Array.from(gram);
  let trace = 0;
  for (let k = 0; k < D; k++) trace += data[k * D + k];
  for (let k = 0; k < D; k++) data[k * D + k] += PENALTY * Math.max(trace / D, 1e-9);
  const factor = cholesky({ n: D, data });
  const map = new Float64Array(D * D);
  for (let o = 0; o < D; o++) {
    const column = solve(
      factor,
      Float64Array.from({ length: D }, (_, k) => moment[k * D + o]),
    );
    for (let k = 0; k < D; k++) map[k * D + o] = column[k];
  }
  const offset = Float64Array.from({ length: D }, (_, o) => {
    let sum = centreY[o];
    for (let k = 0; k < D; k++) sum -= centreX[k] * map[k * D + o];
    return sum;
  });
  return { map, offset };
}

/** The mapped state at mean 0 and length 1. */
function unit(state: Float32Array, map: Float64Array, offset: Float64Array, D: number): Float64Array {
  const out = Float64Array.from(offset);
  for (let k = 0; k < D; k++) for (let o = 0; o < D; o++) out[o] += state[k] * map[k * D + o];
  const mean = out.reduce((a, b) => a + b, 0) / D;
  const length = Math.sqrt(out.reduce((s, v) => s + (v - mean) ** 2, 0)) || 1;
  return out.map((v) => (v - mean) / length);
}
