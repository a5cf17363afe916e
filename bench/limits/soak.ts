/**
 * @file A long training on a small scale: many tiny steps with evaluations and saved states, recording the memory of the process.
 * Exit code 1 if memory grows by more than a limit from the first fifth to the last.
 *
 *     npm run bench -- soak [steps] [megabytes of growth allowed]
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { padBatch } from '../../data/batches.ts';
import { infoNCE } from '../../losses/info-nce.ts';
import { Random } from '../../math/random.ts';
import { bertGraph } from '../../models/bert.ts';
import type { StepBatch } from '../../training/batches/batches.ts';
import { HostLearner } from '../../training/host-learner.ts';
import { dualEncoderOnHost } from '../../training/step/dual-encoder-step.ts';
import { train } from '../../training/trainer.ts';

const [steps = 100_000, allowed = 30] = process.argv.slice(2).map(Number);
const VOCABULARY = 200;
const encoder = bertGraph(
  { vocabularySize: VOCABULARY, hidden: 16, layers: 1, heads: 2, intermediate: 32, maxLength: 32 },
  Random.of(0, 'weights'),
);
const learner = new HostLearner(
  await dualEncoderOnHost({
    encoder,
    pooling: 'mean',
    normalize: true,
    losses: [{ loss: infoNCE(), weight: 1 }],
    groups: 1,
    session: { threads: 1 },
  }),
);

/** Texts of varying length, so that shapes change from step to step. */
function draw(step: number): StepBatch {
  const random = Random.of(step, 'soak');
  const n = 4;
  const texts = (longest: number) =>
    padBatch(
      Array.from({ length: n }, () => {
        const ids = Int32Array.from(
          { length: 2 + random.integer(longest - 1) },
          () => 5 + random.integer(VOCABULARY - 5),
        );
        return { ids, typeIds: new Int32Array(ids.length) };
      }),
      0,
    );
  const square = (at: (i: number) => number) =>
    ({ dtype: 'float32', dims: [n, n], data: Float32Array.from({ length: n * n }, (_, i) => at(i)) }) as const;
  return {
    queries: texts(8),
    documents: [texts(24)],
    candidates: { dtype: 'int64', dims: [n, 1], data: BigInt64Array.from({ length: n }, (_, i) => BigInt(i)) },
    arrays: { positives: square((i) => Number(Math.floor(i / n) === i % n)), inBatch: square(() => 1) },
    weights: { dtype: 'float32', dims: [n], data: new Float32Array(n).fill(1) },
  };
}

const folder = mkdtempSync(join(tmpdir(), 'soak-'));
const every = Math.max(1, Math.floor(steps / 20));
const seen: number[] = [];
const started = performance.now();
await train(
  learner,
  { draw },
  {
    schedule: { learningRate: 1e-4, warmupSteps: 10, totalSteps: steps, finalShare: 0.1 },
    saveEvery: every,
    evaluateEvery: every,
  },
  {
    stateFolder: folder,
    key: { soak: String(steps) },
    async evaluate(_, step) {
      global.gc?.();
      const usage = process.memoryUsage();
      const rss = usage.rss / 2 ** 20;
      seen.push(rss);
      console.log(
        JSON.stringify({
          step,
          rss_mb: Math.round(rss),
          heap_mb: Math.round(usage.heapUsed / 2 ** 20),
          seconds: Math.round((performance.now() - started) / 1000),
        }),
      );
      return 0;
    },
  },
);
await learner.release();
rmSync(folder, { recursive: true });
const mean = (x: readonly number[]): number => x.reduce((a, b) => a + b, 0) / x.length;
const fifth = Math.max(1, Math.floor(seen.length / 5));
// The first fifth is warm-up: arenas and heap reach their size.
const growth = mean(seen.slice(-fifth)) - mean(seen.slice(fifth, 2 * fifth));
console.log(JSON.stringify({ steps, growth_mb: Number(growth.toFixed(1)), allowed_mb: allowed }));
if (growth > allowed) process.exitCode = 1;
