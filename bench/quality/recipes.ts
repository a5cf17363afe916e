/** @file The recipes whose time to quality is measured: options of a run by tower and number of steps. */
import { join } from 'node:path';
import type { ConfigInput } from '../../config/config.ts';
import { PROVIDER } from '../peers/peers.ts';

/** What is trained. */
export const towers = ['query-tower', 'static', 'assistant'] as const;
export type Tower = (typeof towers)[number];

/** Numbers of steps that are tried, fewest first: each is a training of its own, whose learning rate falls to its end. */
export const ladders: Readonly<Record<Tower, readonly number[]>> = {
  'query-tower': [50, 75, 100, 150, 200, 300, 400, 600],
  static: [250, 500, 750, 1000, 1500, 2000, 3000],
  assistant: [100, 200, 300, 400, 600, 800],
};

/** The dual-encoder whose documents the two query towers search. */
export const TEACHER = 'models/debian-dual-encoder';
/** Spans of documents that are matched in addition to the queries; their vectors are in the cache. */
export const SPANS = 100_000;
export const LIMITS = { queryTokens: 64, documentTokens: 192 };

/** @param shared folder with data/ and models/ */
export function optionsOf(
  tower: Tower,
  steps: number,
  { shared, output, cache }: { shared: string; output: string; cache?: string },
): ConfigInput {
  const common = {
    output,
    ...(cache !== undefined && { cache }),
    data: { path: join(shared, 'data/debian'), splits: { dev: null } },
    evaluate: { before: false, bm25: false, teacher: false },
  };
  const embedder = { model: join(shared, TEACHER), ...LIMITS };
  const training = { steps, provider: PROVIDER, warmupSteps: Math.ceil(steps / 10), saveEvery: 1_000_000 };
  const matching = { kind: 'embedding-matching' as const, weight: 2, of: 'queries' as const };
  if (tower === 'query-tower')
    return {
      ...common,
      pipeline: 'inherit-documents',
      embedder,
      student: { model: embedder.model, layers: [0, 2, 5], ...LIMITS },
      losses: [matching],
      train: { ...training, batchSize: 64, learningRate: 1e-3 },
    };
  if (tower === 'static')
    return {
      ...common,
      pipeline: 'static-queries',
      embedder,
      student: { static: { order: 'none' }, ...LIMITS },
      losses: [matching],
      generate: { kind: 'spans', count: SPANS },
      train: { ...training, batchSize: 64, spans: 256, learningRate: 3e-3 },
    };
  return {
    ...common,
    teacher: { kind: 'scores', files: { train: join(shared, 'data/debian/teacher-scores-train.tsv.gz') } },
    student: { model: join(shared, 'models/minilm-l6'), ...LIMITS },
    candidates: { source: 'given' },
    losses: [
      { kind: 'info-nce', temperature: 0.05 },
      { kind: 'kl', temperature: 1, studentTemperature: 0.05 },
    ],
    train: { ...training, batchSize: 32, candidates: 4, documentTokens: 96, learningRate: 5e-5 },
  };
}
