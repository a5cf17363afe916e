/**
 * @file A real training run compared with sentence-transformers' trainer: data/debian, 16 queries x 4 documents, natural lengths
 * up to 192 tokens, InfoNCE over the step's documents, AdamW; reading, tokenizing and loading included.
 *
 *   npm run bench -- real [steps]      200 by default
 */
import { join } from 'node:path';
import { openBeir } from '../../data/beir.ts';
import { readScores } from '../../data/scores.ts';
import { TextTokenizer, type Tokens } from '../../data/tokenizer.ts';
import { loadGraph } from '../../engine/io/onnx-file.ts';
import { infoNCE } from '../../losses/info-nce.ts';
import { type Examples, makeBatch } from '../../training/batches/dual-encoder-batch.ts';
import { HostLearner } from '../../training/host-learner.ts';
import { dualEncoderOnHost } from '../../training/step/dual-encoder-step.ts';
import { train } from '../../training/trainer.ts';
import { compare, type Measured, ours, python, round, SHARED } from './peers.ts';
import { peakMegabytes } from './step.ts';

const QUERIES = 16;
const CANDIDATES = 4;
const MAX_LENGTH = 192;
/** Six groups have 0.53 of the padded tokens of the peer's columns, four 0.59. */
const GROUPS = 6;

async function measure(steps: number): Promise<Measured> {
  const started = performance.now();
  const data = join(SHARED, 'data/debian');
  const model = join(SHARED, 'models/minilm-l6');
  const { queries, documents } = await openBeir(data);
  const lists = await readScores(join(data, 'teacher-scores-train.tsv.gz'), queries, documents);
  const tokenizer = await TextTokenizer.load(model);
  const n = Math.min(lists.queries.length, steps * QUERIES);
  const none: ReadonlySet<number> = new Set();
  const examples: Examples = {
    queries: lists.queries.slice(0, n),
    offsets: lists.offsets.slice(0, n + 1),
    documents: lists.documents,
    scores: lists.scores,
    labelled: new Uint8Array(n).fill(1),
    weights: new Float32Array(n).fill(1),
    relevant: () => none,
  };
  const kept = (text: (i: number) => string): ((i: number) => Tokens) => {
    const made = new Map<number, Tokens>();
    return (i) => {
      const known = made.get(i) ?? tokenizer.encode(text(i), MAX_LENGTH);
      made.set(i, known);
      return known;
    };
  };
  const graph = await dualEncoderOnHost({
    encoder: await loadGraph(join(model, 'onnx/model.onnx')),
    pooling: 'mean',
    normalize: true,
    losses: [{ loss: infoNCE({ temperature: 0.05 }), weight: 1 }],
    groups: GROUPS,
  });
  const loaded = performance.now();
  const learner = new HostLearner(graph, { clipNorm: 1 });
  const source = {
    examples,
    queryTokens: kept((i) => queries.text(i)),
    documentTokens: kept((i) => documents.text(i)),
    padId: tokenizer.padId,
  };
  const batchOptions = { queries: QUERIES, candidates: CANDIDATES, documentGroups: 1, seed: 0 };
  const result = await train(
    learner,
    { draw: (number) => makeBatch(source, number, batchOptions) },
    {
      schedule: { learningRate: 5e-5, warmupSteps: 10, totalSteps: steps, finalShare: 0 },
    },
  );
  await learner.release();
  const seconds = (performance.now() - started) / 1000;
  return {
    engine: 'onnx-distill',
    steps,
    seconds: round(seconds, 2),
    ms_a_step: round((1000 * seconds) / steps, 1),
    load_s: round((loaded - started) / 1000, 2),
    first_loss: round(result.log[0].loss),
    last_loss: round(result.log.at(-1)?.loss ?? Number.NaN),
    peak_rss_mb: peakMegabytes(),
  };
}

if (import.meta.filename === process.argv[1]) {
  const args = process.argv.slice(2);
  if (args[0] === 'ours') console.log(JSON.stringify(await measure(Number(args[1]))));
  else {
    const steps = Number(args[0] ?? 200);
    const contenders = [ours(import.meta.filename, steps), python('sentence-transformers', 'real.py', steps)];
    await compare(contenders, ['seconds', 'peak_rss_mb']);
  }
}
