/**
 * @file Trains the first steps of a case and compares loss and gradient norm with PyTorch's.
 *
 *   npm run trajectory -- ../shared/reference/minilm-debian-10-steps.json
 *
 * The case's folders are relative to $SHARED (by default ../shared). Exit code 1 where a loss differs by more than 1e-4
 * relative or a gradient norm by more than 1e-3. PROVIDER=webgpu trains on a GPU, where the loss may differ by 1e-3.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { padBatch } from '../data/batches.ts';
import { openBeir } from '../data/beir.ts';
import { TextTokenizer } from '../data/tokenizer.ts';
import { loadGraph } from '../engine/graph/proto.ts';
import { infoNCE } from '../losses/info-nce.ts';
import { DeviceLearner } from '../training/device-learner.ts';
import { HostLearner } from '../training/learner.ts';
import { type StepBatch, StepGraph, type StepGraphOptions } from '../training/step-graph.ts';

interface Trajectory {
  model: string;
  data: string;
  first_row: number;
  batch: number;
  max_length: number;
  temperature: number;
  optimizer: { lr: number; betas: [number, number]; eps: number; weight_decay: number };
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
  const model = join(shared, c.model);
  const data = await openBeir(join(shared, c.data));
  const tokenizer = await TextTokenizer.load(model);
  const rows = [...data.qrels('train')]
    .flatMap(([q, docs]) => [...docs.keys()].map((d) => [q, d] as const))
    .slice(c.first_row);
  const { lr, betas, eps, weight_decay } = c.optimizer;
  const adamw = { betas, eps, weightDecay: weight_decay, decayNormsAndBiases: true };
  const options: StepGraphOptions = {
    encoder: await loadGraph(join(model, 'onnx/model.onnx')),
    pooling: 'mean',
    normalize: true,
    losses: [{ loss: infoNCE({ temperature: c.temperature }), weight: 1 }],
  };
  const learner =
    provider === 'cpu'
      ? new HostLearner(await StepGraph.create(options), adamw)
      : await DeviceLearner.create({ ...options, session: { provider } }, adamw);
  const tolerance = provider === 'cpu' ? 1e-4 : 1e-3;
  const n = c.batch;
  const eye = Float32Array.from({ length: n * n }, (_, i) => Number(Math.floor(i / n) === i % n));
  try {
    for (const [k, reference] of c.steps.entries()) {
      const batch = rows.slice(k * n, (k + 1) * n);
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

if (import.meta.filename === process.argv[1]) {
  const provider = process.env.PROVIDER as 'cpu' | 'webgpu' | 'cuda' | undefined;
  for await (const step of trajectory(process.argv[2], process.env.SHARED ?? '../shared', provider)) {
    console.log(JSON.stringify(step));
    if (!step.ok) process.exitCode = 1;
  }
}
