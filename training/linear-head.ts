/** @file FRR-L: a linear layer behind a frozen encoder, from whose scores the encoder's features can be reconstructed. */
import type { RunControl } from '../common/progress.ts';
import { Expr } from '../engine/expressions/expr.ts';
import { Graph } from '../engine/graph/ir.ts';
import { identity, type Tensor, tensor } from '../engine/graph/tensor.ts';
import { embeddingMatching } from '../losses/embedding-matching.ts';
import { Random } from '../math/random.ts';
import { type BatchSource, type EmbeddingTable, makeBatch } from './batches/dual-encoder-batch.ts';
import { HostLearner } from './host-learner.ts';
import { dualEncoderOnHost, type WeightedLoss } from './step/dual-encoder-step.ts';

export interface LinearHeadOptions {
  /** Of the squared distance of reconstructed features. */
  weight: number;
  /** Documents whose scores features are reconstructed from. */
  anchors: number;
  steps: number;
  learningRate: number;
  /** Queries a step, and documents a query. */
  batchSize: number;
  candidates: number;
  seed: number;
}

/** Texts a step whose features are reconstructed. */
const RECONSTRUCTED = 256;
/** Anchors closer than this to the span of those before it add no direction. */
const INDEPENDENT = 1e-6;

/**
 * [D, D] A+ A, the pseudo-inverse of the anchors times the anchors: what is left of a vector when it is reconstructed from its
 * scores against them. The identity for D or more independent anchors.
 */
export function reconstruction({ dimensions: D, data }: EmbeddingTable): Tensor<'float32'> {
  const basis: Float64Array[] = [];
  for (let at = 0; at < data.length && basis.length < D; at += D) {
    const v = Float64Array.from(data.subarray(at, at + D));
    const before = Math.sqrt(v.reduce((s, x) => s + x * x, 0));
    // Twice, for what rounding leaves after once.
    for (let again = 0; again < 2; again++)
      for (const b of basis) {
        const along = b.reduce((s, x, k) => s + x * v[k], 0);
        for (let k = 0; k < D; k++) v[k] -= along * b[k];
      }
    const length = Math.sqrt(v.reduce((s, x) => s + x * x, 0));
    if (length > INDEPENDENT * before) basis.push(v.map((x) => x / length));
  }
  const map = new Float32Array(D * D);
  for (let i = 0; i < D; i++) for (let j = 0; j < D; j++) map[i * D + j] = basis.reduce((s, b) => s + b[i] * b[j], 0);
  return tensor('float32', [D, D], map);
}

/**
 * Trains W, which begins as the identity, by the losses of a run over embeddings h of the frozen encoder (normalised), with
 *
 *     weight x mean over texts of |h - A+ s|^2,  s = A e,  e = W h at unit length
 *
 * s being the scores of a text against the anchors A: the scores must determine the features, so that none of them is given up.
 *
 * @param source examples; `queryTokens` and `documentTokens` are not read
 * @param features of all queries and of all documents, by position; rows that no example names may be 0
 * @source Addepalli, Nasery, Babu, Netrapalli, Jain 2022 (arXiv 2210.01360), with the norm and the decoder that docs/methods.md gives
 */
export async function linearHeadOf(
  { examples }: Pick<BatchSource, 'examples'>,
  features: { queries: EmbeddingTable; documents: EmbeddingTable },
  losses: readonly WeightedLoss[],
  options: LinearHeadOptions,
  watch: RunControl = {},
): Promise<{ head: Tensor<'float32'>; loss: number; reconstructed: number }> {
  const { queries, documents } = features;
  const D = queries.dimensions;
  const count = queries.data.length / D;
  const random = Random.of(options.seed, 'anchors');
  const known = [...new Set(examples.documents)];
  const rows = (at: readonly number[]): EmbeddingTable => {
    const data = new Float32Array(at.length * D);
    for (const [i, d] of at.entries()) data.set(documents.data.subarray(d * D, (d + 1) * D), i * D);
    return { dimensions: D, data };
  };
  const anchors = [...random.shuffle(Int32Array.from(known)).subarray(0, options.anchors)];

  // A text is a single token, the row of its features.
  const table = new Float32Array(queries.data.length + documents.data.length);
  table.set(queries.data);
  table.set(documents.data, queries.data.length);
  const graph = new Graph(17);
  const ids = new Expr(graph, graph.input('input_ids', 'int64', ['rows', 'length']));
  const all = new Expr(graph, graph.constant(tensor('float32', [table.length / D, D], table), FEATURES));
  const head = new Expr(graph, graph.constant(identity(D, D), HEAD));
  graph.output(all.gather(ids).matmul(head).value, 'last_hidden_state');

  const token = (row: number) => ({ ids: Int32Array.of(row), typeIds: Int32Array.of(0) });
  const texts = [...new Set(examples.queries)].concat(known.map((d) => count + d));
  const kept = new Float32Array(texts.length * D);
  for (const [i, row] of texts.entries()) kept.set(table.subarray(row * D, (row + 1) * D), i * D);
  const source: BatchSource = {
    examples,
    queryTokens: token,
    documentTokens: (d) => token(count + d),
    padId: 0,
    kept: { count: texts.length, tokens: (i) => token(texts[i]), embeddings: { dimensions: D, data: kept } },
  };
  const learner = new HostLearner(
    await dualEncoderOnHost({
      encoder: graph,
      pooling: 'mean',
      normalize: true,
      losses,
      fixed: new Set([FEATURES]),
      groups: 1,
      kept: {
        loss: embeddingMatching({ of: 'queries', distance: 'squared' }),
        // A weight of 0 is no penalty.
        weight: options.weight,
        width: D,
        through: reconstruction(rows(anchors)),
      },
    }),
    { weightDecay: 0, clipNorm: 1 },
  );
  try {
    const n = examples.queries.length;
    let [loss, reconstructed] = [Number.NaN, Number.NaN];
    for (let step = 0; step < options.steps; step++) {
      watch.signal?.throwIfAborted();
      const batch = makeBatch(source, step, {
        queries: Math.min(options.batchSize, n),
        candidates: options.candidates,
        documentGroups: 1,
        keptTexts: RECONSTRUCTED,
        seed: options.seed,
      });
      const rate = options.learningRate * (1 - step / options.steps);
      const { loss: total, terms } = await learner.step([batch], step, rate);
      [loss, reconstructed] = [total, terms.at(-1) as number];
      watch.onProgress?.({
        stage: 'train the linear layer',
        done: step + 1,
        total: options.steps,
        unit: 'steps',
        loss,
      });
    }
    const trained = (await learner.weights()).get(HEAD) as Tensor<'float32'>;
    return { head: { ...trained, data: Float32Array.from(trained.data) }, loss, reconstructed };
  } finally {
    await learner.release();
  }
}

const FEATURES = 'features';
const HEAD = 'head';
