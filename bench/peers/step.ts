/**
 * @file Time and memory of one training step: 64 sequences of 64 tokens, minilm-l6, AdamW.
 *
 *   npm run bench -- step [sequences] [length] [steps] [groups]      compared with ../shared/reference/torch_step.py bench, one
 * JSON line per run
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { infoNCE } from '../../losses/info-nce.ts';
import { Random } from '../../math/random.ts';
import type { StepBatch } from '../../training/batches/batches.ts';
import type { TokenBatch } from '../../training/batches/length-groups.ts';
import { type DualEncoderStepOptions, dualEncoderOnHost } from '../../training/step/dual-encoder-step.ts';
import { AdamWHost } from '../../training/updates/adamw-host.ts';
import { compare, type Measured, median, ours, python, round, SHARED } from './peers.ts';

export async function benchStep(
  shared: string,
  sequences = 64,
  length = 64,
  steps = 6,
  options: Partial<DualEncoderStepOptions> = {},
): Promise<Measured> {
  const graph = await dualEncoderOnHost({ ...(await stepOptions(shared)), ...options });
  const optimizer = new AdamWHost(graph.parameters);
  const batch = randomBatch(sequences, length);
  const times: number[] = [];
  const optimizing: number[] = [];
  for (let i = 0; i < steps; i++) {
    const started = performance.now();
    await graph.run(batch);
    const ran = performance.now();
    optimizer.step(2e-5);
    optimizing.push((performance.now() - ran) / 1000);
    times.push((performance.now() - started) / 1000);
  }
  await graph.release();
  return {
    engine: 'onnx-distill',
    sequences,
    length,
    median_step_s: round(median(times.slice(1))),
    median_optimizer_s: round(median(optimizing.slice(1))),
    peak_rss_mb: peakMegabytes(),
  };
}

export const stepOptions = async (shared: string): Promise<DualEncoderStepOptions> => ({
  encoder: await loadGraph(join(shared, 'models/minilm-l6/onnx/model.onnx')),
  pooling: 'mean',
  normalize: true,
  losses: [{ loss: infoNCE(), weight: 1 }],
});

/** Half of the sequences are queries, half documents, all of the same length. */
export function randomBatch(sequences: number, length: number): StepBatch {
  const random = Random.of(0, 'bench');
  const n = sequences / 2;
  const half = (): TokenBatch => ({
    rows: n,
    length,
    ids: BigInt64Array.from({ length: n * length }, () => BigInt(1000 + random.integer(19_000))),
    mask: new BigInt64Array(n * length).fill(1n),
    typeIds: new BigInt64Array(n * length),
  });
  const square = (at: (i: number) => number) =>
    ({ dtype: 'float32', dims: [n, n], data: Float32Array.from({ length: n * n }, (_, i) => at(i)) }) as const;
  return {
    queries: half(),
    documents: [half()],
    candidates: { dtype: 'int64', dims: [n, 1], data: BigInt64Array.from({ length: n }, (_, i) => BigInt(i)) },
    arrays: { positives: square((i) => Number(Math.floor(i / n) === i % n)), inBatch: square(() => 1) },
    weights: { dtype: 'float32', dims: [n], data: new Float32Array(n).fill(1) },
  };
}

/** Peak memory of this process in MiB. */
export function peakMegabytes(): number {
  try {
    const line = readFileSync('/proc/self/status', 'utf8').match(/VmHWM:\s+(\d+)/);
    if (line) return Math.floor(Number(line[1]) / 1024);
  } catch {}
  return Math.floor(process.resourceUsage().maxRSS / 1024);
}

if (import.meta.filename === process.argv[1]) {
  const [who, ...rest] = process.argv.slice(2);
  const [sequences = 64, length = 64, steps = 6, groups = 4] = (who === 'ours' ? rest : process.argv.slice(2)).map(
    Number,
  );
  if (who === 'ours') console.log(JSON.stringify(await benchStep(SHARED, sequences, length, steps, { groups })));
  else
    await compare(
      [
        ours(import.meta.filename, sequences, length, steps, groups),
        python('torch', join(SHARED, 'reference/torch_step.py'), 'bench', sequences, length, steps),
      ],
      ['median_step_s', 'peak_rss_mb'],
    );
}
