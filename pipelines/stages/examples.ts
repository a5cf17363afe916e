/** @file From scored candidates to what is trained on: selection and weights. */
import type { Dataset } from '../../data/dataset.ts';
import type { CandidateLists } from '../../data/scores.ts';
import type { Examples } from '../../training/examples.ts';
import type { Config } from '../config.ts';

/** Examples of a split; queries without any candidate are left out and counted. */
export function makeExamples(
  config: Config,
  dataset: Dataset,
  split: string,
  lists: CandidateLists,
): { examples: Examples; leftOut: number } {
  const qrels = dataset.qrels(split);
  const relevantOf = new Map<number, Set<number>>();
  const none: ReadonlySet<number> = new Set();
  for (const [query, grades] of qrels) {
    const relevant = [...grades].filter(([, g]) => g > 0).map(([id]) => dataset.documents.indexOf(id) as number);
    relevantOf.set(dataset.queries.indexOf(query) as number, new Set(relevant));
  }
  const kept: number[] = [];
  const chosen: number[][] = [];
  const labelled: number[] = [];
  for (let i = 0; i < lists.queries.length; i++) {
    const all = Array.from({ length: lists.offsets[i + 1] - lists.offsets[i] }, (_, k) => lists.offsets[i] + k);
    if (!all.length) continue;
    const relevant = relevantOf.get(lists.queries[i]) ?? none;
    const positive = all.find((at) => relevant.has(lists.documents[at]));
    const negatives = select(
      config,
      lists,
      all.filter((at) => at !== positive),
      positive,
    );
    kept.push(i);
    labelled.push(positive === undefined ? 0 : 1);
    chosen.push(positive === undefined ? negatives : [positive, ...negatives]);
  }
  const offsets = new Int32Array(kept.length + 1);
  for (const [k, list] of chosen.entries()) offsets[k + 1] = offsets[k] + list.length;
  const flat = chosen.flat();
  const examples: Examples = {
    queries: Int32Array.from(kept, (i) => lists.queries[i]),
    offsets,
    documents: Int32Array.from(flat, (at) => lists.documents[at]),
    scores: Float32Array.from(flat, (at) => lists.scores[at]),
    labelled: Uint8Array.from(labelled),
    weights: new Float32Array(kept.length).fill(1),
    relevant: (query) => relevantOf.get(query) ?? none,
  };
  if (config.weighting.kind === 'confidence') examples.weights = confidence(examples, config.weighting.temperature);
  return { examples, leftOut: lists.queries.length - kept.length };
}

/** All negatives, or the hardest by the teacher that are not probably relevant themselves. */
function select(config: Config, lists: CandidateLists, negatives: number[], positive: number | undefined): number[] {
  const { selection } = config;
  if (selection.kind === 'all') return negatives;
  const limit =
    positive === undefined || selection.margin === undefined
      ? Number.POSITIVE_INFINITY
      : lists.scores[positive] - selection.margin;
  const safe = negatives.filter((at) => lists.scores[at] < limit || Number.isNaN(lists.scores[at]));
  return safe.sort((a, b) => lists.scores[b] - lists.scores[a]).slice(0, selection.count);
}

/** 1 - H(softmax(t / T)) / log N, scaled to mean 1: a teacher that cannot tell the candidates apart teaches little. */
function confidence(examples: Examples, temperature: number): Float32Array {
  const weights = Float32Array.from(examples.queries, (_, e) => {
    const scores = Array.from(
      examples.scores.subarray(examples.offsets[e], examples.offsets[e + 1]),
      (s) => s / temperature,
    );
    if (scores.length < 2 || scores.some(Number.isNaN)) return 1;
    const max = Math.max(...scores);
    const exps = scores.map((s) => Math.exp(s - max));
    const total = exps.reduce((a, b) => a + b, 0);
    const entropy = exps.reduce((h, x) => (x ? h - (x / total) * Math.log(x / total) : h), 0);
    return 1 - entropy / Math.log(scores.length);
  });
  const mean = weights.reduce((a, b) => a + b, 0) / weights.length || 1;
  return weights.map((w) => w / mean);
}
