/** @file Batches of queries with the documents near them and others, from which maps of embeddings are learned. */
import type { RunControl } from '../common/progress.ts';
import type { Tensor } from '../engine/graph/tensor.ts';
import { Random } from '../math/random.ts';
import { search } from '../retrieval/exact-search.ts';
import type { Embeddings } from '../teachers/teacher.ts';

export interface RankingOptions {
  steps: number;
  /** Queries per step. */
  queries?: number;
  /** Documents per step: the queries' nearest ones, and random others. */
  documents?: number;
  seed: number;
}

/** The embeddings of one step. */
export interface RankingBatch {
  /** [Q, D] */
  queries: Tensor<'float32'>;
  /** [M, D] */
  documents: Tensor<'float32'>;
}

/** Nearest documents per query of a step. */
const NEAREST = 4;
/** A sample of a large corpus is enough, and is searched in seconds. */
const MOST_DOCUMENTS = 65_536;

/** Draws the embeddings of each step; the same seed draws the same. @returns a function to be called for each step in order */
export async function rankingBatches(
  queries: Embeddings,
  documents: Embeddings,
  options: RankingOptions,
  watch: RunControl = {},
): Promise<(step: number) => RankingBatch> {
  const { dimensions: D } = queries;
  const [n, m] = [queries.data.length / D, documents.data.length / D];
  const perStep = Math.min(options.queries ?? 128, n);
  const drawn = options.documents ?? 2048;
  const random = Random.of(options.seed, 'rotation');
  const order = random.shuffle(indices(n)).subarray(0, options.steps * perStep);
  const some =
    m > MOST_DOCUMENTS ? gathered(documents, random.shuffle(indices(m)).subarray(0, MOST_DOCUMENTS)) : undefined;
  const corpus = some ? { dimensions: D, data: some.data as Float32Array } : documents;
  const searched = corpus.data.length / D;
  const k = Math.min(NEAREST, searched);
  const near = await search(gathered(queries, order).data as Float32Array, corpus.data, D, k, watch);
  return (step) => {
    const places = Array.from({ length: perStep }, (_, i) => (step * perStep + i) % order.length);
    const close = places.flatMap((p) => [...near.indices.subarray(p * k, (p + 1) * k)]);
    const others = Array.from({ length: Math.max(0, drawn - close.length) }, () => random.integer(searched));
    return {
      queries: gathered(
        queries,
        places.map((p) => order[p]),
      ),
      documents: gathered(corpus, [...close, ...others]),
    };
  };
}

const indices = (n: number): Int32Array => Int32Array.from({ length: n }, (_, i) => i);

function gathered({ dimensions: D, data }: Embeddings, rows: ArrayLike<number>): Tensor<'float32'> {
  const out = new Float32Array(rows.length * D);
  for (let i = 0; i < rows.length; i++) out.set(data.subarray(rows[i] * D, (rows[i] + 1) * D), i * D);
  return { dtype: 'float32', dims: [rows.length, D], data: out };
}
