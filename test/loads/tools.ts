/** @file What tests of other people's loaders share: texts of every kind, a checkpoint exported in every dtype, cosines. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { encodeGraph } from '../../engine/io/onnx-file.ts';
import { writeCheckpoint } from '../../models/checkpoint.ts';
import { Encoder } from '../../models/encoder.ts';
import { freshModel } from '../../models/new-model.ts';
import { loadStudent } from '../../students/encoder-student.ts';
import { exportDTypes } from '../../students/export/dtypes.ts';
import { exportFolder } from '../../students/export/export-folder.ts';
import { shared } from '../shared.ts';

/** Short, long (cut off), empty, non-Latin and odd. */
export const texts: readonly string[] = [
  'how do I install a kernel module',
  'A text editor with syntax highlighting for many programming languages, folding, and a terminal beside it. '.repeat(
    8,
  ),
  '',
  'Привет мир, как дела?',
  '漢字とかな',
  'naïve café — “quoted” text…',
  'the [SEP] token by name, and numbers 1234567890',
  'a',
];

export const MAX_LENGTH = 40;

export interface Exported {
  /** Folder that holds the exports below; what transformers.js calls the path of local models. */
  root: string;
  /** Every dtype, all dimensions. */
  whole: string;
  /** Every dtype, cut to `DIMENSIONS`. */
  cut: string;
  width: number;
  /** Of the texts, by the checkpoint before its export. */
  embeddings: Float32Array;
}

export const DIMENSIONS = 32;

/** Two layers of a real model where there is one, with its vocabulary cut; a new tiny one elsewhere. */
export async function exportEverything(): Promise<Exported> {
  const root = mkdtempSync(join(tmpdir(), 'loads-'));
  let from = join(root, 'fresh');
  if (shared) from = join(shared, 'models/minilm-l6');
  else await freshModel(from, { length: texts.length, text: (i) => texts[i] }, { vocabulary: 400, hidden: 64 });
  const student = await loadStudent(from, shared ? { layers: [0, 5] } : {});
  const width = Number(student.folder.config.hidden_size);
  const source = join(root, 'source');
  await writeCheckpoint(source, {
    model: encodeGraph(student.graph),
    tokenizerFrom: from,
    config: { ...student.folder.config, num_hidden_layers: 2 },
    head: { pooling: ['mean'], includePrompt: true, modules: [{ kind: 'normalize' }] },
    similarity: 'cosine',
    tokenWidth: width,
    maxLength: MAX_LENGTH,
    provenance: {},
    card: '# A checkpoint of tests\n',
  });
  const tokenizer = await TextTokenizer.load(source);
  const used = new Set(texts.flatMap((t) => tokenizer.plain(t)));
  const options = { dtypes: exportDTypes, used, reserve: 1000 };
  await exportFolder(source, join(root, 'whole'), options);
  await exportFolder(source, join(root, 'cut'), { ...options, dimensions: DIMENSIONS });
  const encoder = await Encoder.load(source);
  const embeddings = await encoder.encode(texts);
  await encoder.dispose();
  return { root, whole: join(root, 'whole'), cut: join(root, 'cut'), width, embeddings };
}

/** The first dimensions of each embedding, at unit length. */
export function prefixes(embeddings: Float32Array, width: number, dimensions: number): Float32Array {
  const out = new Float32Array((embeddings.length / width) * dimensions);
  for (let r = 0; r < embeddings.length / width; r++) {
    const part = embeddings.subarray(r * width, r * width + dimensions);
    const length = Math.hypot(...part);
    for (let i = 0; i < dimensions; i++) out[r * dimensions + i] = part[i] / length;
  }
  return out;
}

/** Cosine of each row of one matrix with the same row of the other. */
export function cosines(a: ArrayLike<number>, b: ArrayLike<number>, width: number): number[] {
  if (a.length !== b.length) throw new Error(`${a.length} numbers compared with ${b.length}`);
  return Array.from({ length: a.length / width }, (_, r) => {
    let [dot, squareA, squareB] = [0, 0, 0];
    for (let i = r * width; i < (r + 1) * width; i++) {
      dot += a[i] * b[i];
      squareA += a[i] ** 2;
      squareB += b[i] ** 2;
    }
    return dot / Math.sqrt(squareA * squareB);
  });
}

export const largestDifference = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
  a.length === b.length ? Array.from(a).reduce((m, x, i) => Math.max(m, Math.abs(x - b[i])), 0) : Number.NaN;
