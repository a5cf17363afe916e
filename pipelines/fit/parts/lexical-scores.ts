/** @file BM25 of the queries and documents of a step, which is added to the student's scores: it learns what BM25 does not find. */
import type { Tensor } from '../../../engine/graph/tensor.ts';
import { bm25Index } from '../../../evaluation/bm25-run.ts';
import { mean } from '../../../math/numbers.ts';
import { Random } from '../../../math/random.ts';
import type { StepBatch } from '../../../training/batches/batches.ts';
import type { Examples } from '../../../training/batches/dual-encoder-batch.ts';
import type { Fit } from './fit.ts';

export interface LexicalScores {
  /** Adds `lexical` [B, M] to a batch. */
  addTo<B extends StepBatch & { exampleIds: readonly number[]; documentIds: readonly number[] }>(
    batch: B,
    examples: Examples,
  ): B;
}

/** Training queries whose best score the scale is the mean of. */
const SAMPLE = 500;

/** An index of the documents where `train.lexical` is given. */
export async function lexicalScores({ inputs, options, note, time, watch }: Fit): Promise<LexicalScores | undefined> {
  const weight = options.train.lexical;
  if (weight === undefined) return undefined;
  const { data, examples } = inputs;
  const index = await time('lexical scores', () => bm25Index(data.documents, watch));
  const asked = Random.of(0, 'lexical scale').shuffle(Int32Array.from(examples.queries)).subarray(0, SAMPLE);
  const scale = mean(Array.from(asked, (q) => index.search(data.queries.text(q), 1).scores[0] ?? 0)) || 1;
  const factor = weight / scale;
  note(`${weight} x BM25 / ${scale.toFixed(2)} is added to the student's scores while it trains`);
  return {
    addTo(batch, { queries }) {
      const [B, M] = [batch.exampleIds.length, batch.documentIds.length];
      const scores = new Float32Array(B * M);
      for (const [b, e] of batch.exampleIds.entries()) {
        const own = index.scores(data.queries.text(queries[e]), batch.documentIds);
        for (let m = 0; m < M; m++) scores[b * M + m] = factor * own[m];
      }
      const lexical: Tensor<'float32'> = { dtype: 'float32', dims: [B, M], data: scores };
      return { ...batch, lexical };
    },
  };
}
