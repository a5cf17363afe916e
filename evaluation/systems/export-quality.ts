/** @file Whether an exported file still finds what its checkpoint finds: both on the same sample of dev queries and documents. */
import type { RunControl } from '../../common/progress.ts';
import type { Dataset } from '../../data/dataset.ts';
import { Random } from '../../math/random.ts';
import { Encoder } from '../../models/encoder.ts';
import { inheritedDocuments, type Provenance } from '../../serving/encoder/checkpoint.ts';
import { type FileEncoder, openFileEncoder } from '../../serving/encoder/file-encoder.ts';
import { choiceScore, drawSample, encoderSearcher, retrieve, type Vectors } from './retrieve.ts';

export interface ExportFigures {
  'ndcg@10': number;
  /** Mean cosine of the sample's embeddings with those of the checkpoint. */
  cosine: number;
}

export interface ExportQuality {
  /** Of the checkpoint itself. */
  readonly source: ExportFigures;
  /** @param file an .onnx file of a model folder, or a static file */
  measure(file: string): Promise<ExportFigures>;
}

/** Seed of the sample: the same data give the same sample. */
const SEED = 0;

/** Measures a checkpoint, so that exported files can be compared with it. */
export async function exportQuality(
  dataset: Dataset,
  split: string,
  checkpoint: string,
  made: Provenance,
  sizes: { guardQueries: number; guardDocuments: number },
  watch: RunControl,
): Promise<ExportQuality> {
  const random = Random.of(SEED, 'guard');
  const sample = drawSample(dataset, split, random, () => sizes.guardDocuments, sizes.guardQueries);
  const searched = { dataset, split, depth: 10, sample };
  const documents = inheritedDocuments(made);
  const find = async (
    encoder: Omit<FileEncoder, 'settings' | 'dtype'>,
  ): Promise<{ vectors: Vectors; score: number }> => {
    try {
      const { run, vectors } = await retrieve(encoderSearcher(encoder, made, documents), searched, watch);
      return { vectors, score: choiceScore(run, dataset, split) };
    } finally {
      await encoder.dispose();
    }
  };
  const reference = await find(await Encoder.load(checkpoint, { comparable: true }));
  return {
    source: { 'ndcg@10': reference.score, cosine: 1 },
    async measure(file) {
      const { vectors, score } = await find(await openFileEncoder(file));
      const sides = documents ? (['queries'] as const) : (['queries', 'documents'] as const);
      const all = sides.flatMap((side) =>
        cosines(vectors[side], reference.vectors[side], vectors.dimensions, reference.vectors.dimensions),
      );
      return { 'ndcg@10': score, cosine: all.reduce((a, b) => a + b, 0) / Math.max(1, all.length) };
    },
  };
}

/** Cosine of each row with the row of the wider one, over the dimensions that both have. */
function cosines(a: Float32Array, b: Float32Array, widthA: number, widthB: number): number[] {
  return Array.from({ length: a.length / widthA }, (_, r) => {
    let [dot, squareA, squareB] = [0, 0, 0];
    for (let i = 0; i < widthA; i++) {
      const [x, y] = [a[r * widthA + i], b[r * widthB + i]];
      dot += x * y;
      squareA += x * x;
      squareB += y * y;
    }
    return dot / Math.sqrt(squareA * squareB || 1);
  });
}
