/** @file Whether an exported file still finds what its checkpoint finds: both on the same sample of dev queries and documents. */
import { join } from 'node:path';
import type { Watch } from '../../common/progress.ts';
import type { Dataset, Texts } from '../../data/dataset.ts';
import { evaluateRun } from '../../evaluation/metrics/evaluate.ts';
import { Random } from '../../math/random.ts';
import { Encoder } from '../../models/encoder.ts';
import { readJson } from '../../models/model-folder.ts';
import { cutTo, search } from '../../retrieval/exact-search.ts';
import { openFileEncoder } from './file-encoder.ts';

export interface Figures {
  'ndcg@10': number;
  /** Mean cosine of the sample's embeddings with those of the checkpoint. */
  cosine: number;
}

interface Made {
  config?: {
    student?: { queryTokens?: number; documentTokens?: number; towers?: string };
    embedder?: { model?: string; documentTokens?: number };
  };
}

interface Embedded {
  dimensions: number;
  queries: Float32Array;
  documents: Float32Array;
}

/** Seed of the sample: the same data give the same sample. */
const SEED = 0;

export class Guard {
  readonly source: Figures;
  private readonly parts: Sample;
  private readonly reference: Embedded;

  private constructor(parts: Sample, reference: Embedded, source: Figures) {
    this.parts = parts;
    this.reference = reference;
    this.source = source;
  }

  /** Measures the checkpoint itself. @param folder where its distill.json is */
  static async open(
    dataset: Dataset,
    split: string,
    checkpoint: string,
    folder: string,
    sizes: { guardQueries: number; guardDocuments: number },
    watch: Watch,
  ): Promise<Guard> {
    const encoder = await Encoder.load(checkpoint);
    try {
      const parts = await sample(dataset, split, folder, sizes, watch);
      const reference = await embed(
        parts,
        (texts, maxLength, stage) => encoder.encode(texts, { ...watch, maxLength, stage }),
        encoder.dimensions,
      );
      return new Guard(parts, reference, { 'ndcg@10': await quality(parts, reference, watch), cosine: 1 });
    } finally {
      await encoder.dispose();
    }
  }

  /** @param file an .onnx file of a model folder, or a static file */
  async measure(file: string, watch: Watch): Promise<Figures> {
    const encoder = await openFileEncoder(file);
    try {
      return await this.figures(
        await embed(
          this.parts,
          (texts, maxLength, stage) => encoder.encode(texts, { ...watch, maxLength, stage }),
          encoder.dimensions,
        ),
        watch,
      );
    } finally {
      await encoder.dispose();
    }
  }

  private async figures(embedded: Embedded, watch: Watch): Promise<Figures> {
    const { reference } = this;
    const queries = cosines(embedded.queries, reference.queries, embedded.dimensions, reference.dimensions);
    const documents = this.parts.frozen
      ? []
      : cosines(embedded.documents, reference.documents, embedded.dimensions, reference.dimensions);
    const all = [...queries, ...documents];
    return {
      'ndcg@10': await quality(this.parts, embedded, watch),
      cosine: all.reduce((a, b) => a + b, 0) / Math.max(1, all.length),
    };
  }
}

interface Sample {
  dataset: Dataset;
  split: string;
  queryIds: string[];
  queries: Texts;
  documentIds: string[];
  documents: Texts;
  queryTokens: number;
  documentTokens: number;
  /** Where the student encodes queries alone: the documents it searches. */
  frozen?: { dimensions: number; data: Float32Array };
}

/** Some judged queries, their relevant documents, and others at random. */
async function sample(
  dataset: Dataset,
  split: string,
  folder: string,
  sizes: { guardQueries: number; guardDocuments: number },
  watch: Watch,
): Promise<Sample> {
  const made = (await readJson(join(folder, 'distill.json'))) as Made;
  const random = Random.of(SEED, 'guard');
  const qrels = dataset.qrels(split);
  const judged = [...qrels.keys()].filter((id) => dataset.queries.indexOf(id) !== undefined);
  const queryIds = random.shuffle(judged).slice(0, sizes.guardQueries);
  const positions = new Set<number>();
  for (const id of queryIds)
    for (const [document, grade] of qrels.get(id) ?? []) {
      const at = dataset.documents.indexOf(document);
      if (grade > 0 && at !== undefined) positions.add(at);
    }
  for (const at of random.shuffle(Array.from({ length: dataset.documents.length }, (_, i) => i))) {
    if (positions.size >= sizes.guardDocuments) break;
    positions.add(at);
  }
  const chosen = [...positions];
  const at = queryIds.map((id) => dataset.queries.indexOf(id) as number);
  const student = made.config?.student;
  const parts: Sample = {
    dataset,
    split,
    queryIds,
    queries: { length: at.length, text: (i) => dataset.queries.text(at[i]) },
    documentIds: chosen.map((i) => dataset.documents.ids[i]),
    documents: { length: chosen.length, text: (i) => dataset.documents.text(chosen[i]) },
    queryTokens: student?.queryTokens ?? 64,
    documentTokens: student?.documentTokens ?? 192,
  };
  const embedder = made.config?.embedder;
  if (student?.towers === 'query' && embedder?.model) {
    const encoder = await Encoder.load(embedder.model);
    const maxLength = embedder.documentTokens ?? parts.documentTokens;
    const data = await encoder.encode(parts.documents, { ...watch, maxLength, stage: 'encode documents' });
    parts.frozen = { dimensions: encoder.dimensions, data };
    await encoder.dispose();
  }
  return parts;
}

type Encode = (texts: Texts, maxLength: number, stage: string) => Promise<Float32Array>;

async function embed(parts: Sample, encode: Encode, dimensions: number): Promise<Embedded> {
  const queries = await encode(parts.queries, parts.queryTokens, 'encode queries');
  const documents = parts.frozen
    ? cutTo(dimensions, parts.frozen)
    : await encode(parts.documents, parts.documentTokens, 'encode documents');
  return { dimensions, queries, documents };
}

async function quality(parts: Sample, embedded: Embedded, watch: Watch): Promise<number> {
  const { signal } = watch;
  const hits = await search(embedded.queries, embedded.documents, embedded.dimensions, 10, { signal });
  const run = new Map(
    parts.queryIds.map((id, i) => [
      id,
      {
        ids: Array.from(hits.indices.subarray(i * hits.k, (i + 1) * hits.k), (d) => parts.documentIds[d]),
        scores: hits.scores.subarray(i * hits.k, (i + 1) * hits.k),
      },
    ]),
  );
  const qrels = parts.dataset.qrels(parts.split);
  const judged = new Map(parts.queryIds.map((id) => [id, qrels.get(id) ?? new Map<string, number>()]));
  return evaluateRun(run, judged, ['ndcg@10']).means['ndcg@10'];
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
