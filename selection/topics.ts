/** @file Topic-aware sampling: batches of queries of the same topic, balanced margins. */
import { InputError } from '../common/errors.ts';
import { offsetsOf } from '../math/ragged.ts';
import { Random } from '../math/random.ts';
import { chooseCandidates } from './candidates.ts';
import type { CandidateSelection } from './selection.ts';

export interface TopicBatchOptions {
  /** Queries per batch. */
  batch: number;
  /** Topics per batch. */
  topicsPerBatch?: number;
  seed?: number;
}

/**
 * One epoch of batches with queries of `topicsPerBatch` topics each, so that in-batch negatives are hard.
 *
 * Every query occurs once. The last batches are filled from the remaining queries of other topics.
 *
 * @param topics [n] each query's topic (see kMeans)
 * @returns an order of all n queries and the start of each batch
 * @source Hofstätter et al., SIGIR 2021 (arXiv 2104.06967)
 */
export function topicBatches(
  topics: ArrayLike<number>,
  { batch, topicsPerBatch = 1, seed = 0 }: TopicBatchOptions,
): { indices: Int32Array; offsets: Int32Array } {
  if (!Number.isInteger(batch) || batch < 1 || topicsPerBatch < 1 || batch % topicsPerBatch)
    throw new InputError({
      code: 'selection.topics',
      subject: `batches of ${batch} from ${topicsPerBatch} topics`,
      expected: 'whole numbers, the batch a multiple of its topics',
    });
  const random = Random.of(seed, 'topic batches');
  const share = batch / topicsPerBatch;
  const members = new Map<number, number[]>();
  for (let i = 0; i < topics.length; i++) {
    const own = members.get(topics[i]);
    if (own) own.push(i);
    else members.set(topics[i], [i]);
  }
  const [parts, rest]: [number[][], number[]] = [[], []];
  for (const [, queries] of [...members].sort(([a], [b]) => a - b)) {
    random.shuffle(queries);
    const whole = queries.length - (queries.length % share);
    for (let at = 0; at < whole; at += share) parts.push(queries.slice(at, at + share));
    for (const q of queries.slice(whole)) rest.push(q);
  }
  random.shuffle(parts);
  const batches = separate(parts, topics, topicsPerBatch);
  const left = [...batches.filter((b) => b.length < batch).flat(), ...rest];
  const full = batches.filter((b) => b.length === batch);
  for (let at = 0; at < left.length; at += batch) full.push(left.slice(at, at + batch));
  return { indices: Int32Array.from(full.flat()), offsets: offsetsOf(full.map((b) => b.length)) };
}

/** Joins parts to batches of different topics, as far as possible. */
function separate(parts: number[][], topics: ArrayLike<number>, perBatch: number): number[][] {
  if (perBatch === 1) return parts;
  const open: { queries: number[]; topics: Set<number> }[] = [];
  for (const part of parts) {
    const topic = topics[part[0]];
    let to = open.find((b) => b.topics.size < perBatch && !b.topics.has(topic));
    if (!to) {
      to = { queries: [], topics: new Set() };
      open.push(to);
    }
    for (const q of part) to.queries.push(q);
    to.topics.add(topic);
  }
  return open.map((b) => b.queries);
}

export interface MarginBalancedOptions {
  /** Negatives per query. */
  count?: number;
  /** Number of equal-width bins between a query's smallest and largest margin. */
  bins?: number;
}

/**
 * Draws one of a query's negatives: first a non-empty bin of the teacher's margins, then a negative in it, both uniformly.
 * @param margins t_0 - t_k of the negatives left
 */
export function drawBalanced(margins: ArrayLike<number>, bins: number, random: Random): number {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let k = 0; k < margins.length; k++) [low, high] = [Math.min(low, margins[k]), Math.max(high, margins[k])];
  const binned: number[][] = Array.from({ length: bins }, () => []);
  for (let k = 0; k < margins.length; k++)
    binned[high > low ? Math.min(bins - 1, Math.floor(((margins[k] - low) / (high - low)) * bins)) : 0].push(k);
  const held = binned.filter((b) => b.length);
  const bin = held[random.integer(held.length)];
  return bin[random.integer(bin.length)];
}

/**
 * Negatives of every margin: `count` drawn without replacement by drawBalanced. Lists without a known positive take their first
 * candidates by the teacher's score and are flagged.
 *
 * @source Hofstätter et al., SIGIR 2021 (arXiv 2104.06967); bins of a query's own margins
 */
export function marginBalanced({ count = 8, bins = 10 }: MarginBalancedOptions = {}): CandidateSelection {
  return chooseCandidates('margin-balanced', ({ positive, negatives, scores, random }) => {
    if (positive === undefined || negatives.some((k) => Number.isNaN(scores[k])))
      return { chosen: negatives.slice(0, count), fell: true };
    const left = [...negatives];
    const chosen: number[] = [];
    while (left.length && chosen.length < count) {
      const at = drawBalanced(
        left.map((k) => scores[positive] - scores[k]),
        bins,
        random,
      );
      chosen.push(...left.splice(at, 1));
    }
    return { chosen };
  });
}
