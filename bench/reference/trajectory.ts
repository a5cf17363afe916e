/**
 * @file Trains the first steps of a case and compares loss and gradient norm with PyTorch's.
 *
 *   npm run trajectory -- ../shared/reference/minilm-debian-10-steps.json
 *
 * The case's folders are relative to $SHARED (by default ../shared). Exit code 1 if a loss differs by more than 1e-4 relative or
 * a gradient norm by more than 1e-3. PROVIDER=webgpu trains on a GPU, where the loss may differ by 1e-3.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { padBatch } from '../../data/batches.ts';
import { openBeir } from '../../data/beir.ts';
import { findFile, readLines } from '../../data/files/lines.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import type { Pooling } from '../../engine/expressions/pooling.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { keepLayers } from '../../engine/passes/layers.ts';
import { infoNCE } from '../../losses/info-nce.ts';
import { readModelFolder } from '../../models/model-folder.ts';
import { readSentenceFolder } from '../../models/sentence-folder.ts';
import type { StepBatch } from '../../training/batches/batches.ts';
import { DeviceLearner } from '../../training/device-learner.ts';
import { HostLearner } from '../../training/host-learner.ts';
import {
  type DualEncoderStepOptions,
  dualEncoderOnHost,
  dualEncoderStep,
} from '../../training/step/dual-encoder-step.ts';

interface Trajectory {
  model: string;
  data: string;
  first_row: number;
  batch: number;
  max_length: number;
  temperature: number;
  /** The model folder's setting by default. */
  pooling?: Pooling;
  /** Layers kept before training; all by default. */
  layers?: number[];
  optimizer: { name?: string; lr: number; betas?: [number, number]; eps?: number; weight_decay?: number };
  steps: { loss: number; gradient_norm: number }[];
}

export interface TrajectoryStep {
  step: number;
  loss: number;
  reference: number;
  gradientNorm: number;
  referenceNorm: number;
  ok: boolean;
}

export async function* trajectory(
  file: string,
  shared: string,
  provider: 'cpu' | 'webgpu' | 'cuda' = 'cpu',
): AsyncGenerator<TrajectoryStep> {
  const c: Trajectory = JSON.parse(await readFile(file, 'utf8'));
  const files = await readModelFolder(join(shared, c.model));
  const { folder, model } = files;
  const { head } = await readSentenceFolder(files);
  const data = await openBeir(join(shared, c.data));
  const tokenizer = await TextTokenizer.load(folder);
  const rows = (await judgedRows(join(shared, c.data, 'qrels/train.tsv'))).slice(c.first_row ?? 0);
  const { name = 'adamw', lr, betas, eps, weight_decay } = c.optimizer;
  if (!/^adamw$/i.test(name))
    throw new InputError({
      code: 'trajectory.optimizer',
      subject: `${file}: optimizer '${name}'`,
      expected: 'adamw',
      remedy: 'make the case with torch.optim.AdamW',
    });
  const adamw = { betas, eps, weightDecay: weight_decay, decayNormsAndBiases: true };
  const options: DualEncoderStepOptions = {
    encoder: c.layers ? keepLayers(await loadGraph(model), c.layers) : await loadGraph(model),
    pooling: c.pooling ?? head.pooling[0],
    normalize: true,
    losses: [{ loss: infoNCE({ temperature: c.temperature }), weight: 1 }],
  };
  const learner =
    provider === 'cpu'
      ? new HostLearner(await dualEncoderOnHost(options), adamw)
      : await DeviceLearner.create(await dualEncoderStep({ ...options, session: { provider } }), { provider }, adamw);
  const tolerance = provider === 'cpu' ? 1e-4 : 1e-3;
  try {
    for (const [k, reference] of c.steps.entries()) {
      const batch = rows.slice(k * c.batch, (k + 1) * c.batch);
      const n = batch.length;
      if (!n)
        throw new InputError({
          code: 'trajectory.rows',
          subject: `${file}: step ${k} begins after the last of ${rows.length} rows`,
          remedy: 'name fewer steps or an earlier first_row',
        });
      const eye = Float32Array.from({ length: n * n }, (_, i) => Number(Math.floor(i / n) === i % n));
      const encode = (text: string) => tokenizer.encode(text, c.max_length);
      const text = (table: typeof data.queries, id: string): string => table.text(table.indexOf(id) as number);
      const ones = { dtype: 'float32', dims: [n, n], data: new Float32Array(n * n).fill(1) } as const;
      const stepBatch: StepBatch = {
        queries: padBatch(
          batch.map(([q]) => encode(text(data.queries, q))),
          tokenizer.padId,
        ),
        documents: [
          padBatch(
            batch.map(([, d]) => encode(text(data.documents, d))),
            tokenizer.padId,
          ),
        ],
        candidates: { dtype: 'int64', dims: [n, 1], data: BigInt64Array.from({ length: n }, (_, i) => BigInt(i)) },
        arrays: { positives: { dtype: 'float32', dims: [n, n], data: eye }, inBatch: ones },
        weights: { dtype: 'float32', dims: [n], data: new Float32Array(n).fill(1) },
      };
      const { loss, gradientNorm } = await learner.step([stepBatch], k, lr);
      const off = (a: number, b: number): number => Math.abs(a - b) / Math.abs(b);
      yield {
        step: k,
        loss,
        reference: reference.loss,
        gradientNorm,
        referenceNorm: reference.gradient_norm,
        ok: off(loss, reference.loss) <= tolerance && off(gradientNorm, reference.gradient_norm) <= 1e-3,
      };
    }
  } finally {
    await learner.release();
  }
}

/** Query and document of each line, in the file's order: that is the order of the case's rows. */
async function judgedRows(file: string): Promise<[query: string, document: string][]> {
  const rows: [string, string][] = [];
  for await (const { text, number } of readLines(findFile(file) ?? file)) {
    const [query, document] = text.split('\t');
    if (number > 1 && query && document) rows.push([query, document]);
  }
  return rows;
}

if (import.meta.filename === process.argv[1]) {
  const provider = process.env.PROVIDER as 'cpu' | 'webgpu' | 'cuda' | undefined;
  for await (const step of trajectory(process.argv[2], process.env.SHARED ?? '../shared', provider)) {
    console.log(JSON.stringify(step));
    if (!step.ok) process.exitCode = 1;
  }
}
