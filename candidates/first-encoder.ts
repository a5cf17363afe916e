/** @file The dual-encoder that a cross-encoder is made from: it finds the negatives, and it is what the result is compared with. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { RunControl } from '../common/progress.ts';
import { type Dataset, textsAt } from '../data/dataset.ts';
import type { Graph } from '../engine/graph/ir.ts';
import { type DualEncoderOptions, dualEncoder } from '../teachers/dual-encoder.ts';
import type { Embeddings, Teacher } from '../teachers/teacher.ts';
import { hybridHits, type Side } from './hybrid-hits.ts';

/** Whether a folder says how its vectors are pooled: the cosine of other encoders means nothing. */
export const isDualEncoder = (folder: string, { outputs }: Graph): boolean =>
  !outputs.some((v) => v.name === 'logits') &&
  (existsSync(join(folder, 'modules.json')) || outputs.some((v) => v.name === 'sentence_embedding'));

export interface FirstEncoder {
  /** Its cosine, as a teacher's score. */
  teacher: Teacher;
  /** Documents near each query by cosine and BM25, as positions, best first. */
  near(dataset: Dataset, queries: readonly number[], count: number, watch: RunControl): Promise<number[][]>;
  close(): Promise<void>;
}

/** @param dev split that the weight of BM25 is fitted on */
export async function openFirstEncoder(
  folder: string,
  dev: string | null,
  options: DualEncoderOptions,
): Promise<FirstEncoder> {
  const teacher = await dualEncoder(folder, options);
  const encode = teacher.embed as Side['encode'];
  let documents: Embeddings | undefined;
  return {
    teacher,
    async near(dataset, queries, count, watch) {
      documents ??= await encode(dataset.documents, 'document', watch);
      const texts = textsAt(dataset, queries);
      const asked = { texts, vectors: (await encode(texts, 'query', watch)).data };
      const hits = await hybridHits(dev, dataset, asked, documents.data, { encode }, count, watch);
      return queries.map((_, i) => Array.from(hits.indices.subarray(i * hits.k, (i + 1) * hits.k)));
    },
    close: () => teacher.dispose(),
  };
}
