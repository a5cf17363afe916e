/** @file Selects the candidates of a query to train on, leaving out probable false negatives. */
import { InputError } from '../common/errors.ts';
import { descending, listOf, softmax } from '../math/numbers.ts';
import { drawFrom, Random } from '../math/random.ts';
import type { CandidateInputs, CandidateSelection, SelectedCandidates } from './selection.ts';

interface OneList {
  /** The teacher's scores of the list; NaN where a candidate was not scored. */
  scores: Float64Array;
  /** Positions of known positives, and the first of them. */
  positives: number[];
  positive: number | undefined;
  /** Positions of the others by descending score; ties by the lower position, unscored ones last. */
  negatives: number[];
  /** The list's own stream, made when it is asked for. */
  readonly random: Random;
}

/** Makes a selection from its rule for one list; each list draws from a separate random stream. */
export function chooseCandidates(
  name: string,
  choose: (list: OneList) => { chosen: number[]; fell?: boolean },
): CandidateSelection {
  return {
    name,
    select(inputs: CandidateInputs, { seed = 0 } = {}): SelectedCandidates {
      const { offsets, scores, positives } = inputs;
      const count = offsets.length - 1;
      if (positives.length !== scores.length)
        throw new InputError({
          code: 'selection.count',
          subject: `'positives' given to selection '${name}'`,
          expected: `${scores.length} entries, as many as scores`,
          received: String(positives.length),
        });
      const indices: number[] = [];
      const flagged: number[] = [];
      const ends = new Int32Array(count + 1);
      for (let i = 0; i < count; i++) {
        const from = offsets[i];
        const list = listOf({ offsets, scores }, i);
        const order = Array.from(descending(list));
        const known = order.filter((k) => positives[from + k]).sort((a, b) => a - b);
        const { chosen, fell } = choose({
          scores: list,
          positives: known,
          positive: known[0],
          negatives: order.filter((k) => !positives[from + k]),
          get random() {
            return Random.of(seed, `select ${name} ${i}`);
          },
        });
        if (fell) flagged.push(i);
        for (const k of [...known, ...chosen]) indices.push(from + k);
        ends[i + 1] = indices.length;
      }
      return { indices: Int32Array.from(indices), offsets: ends, flagged: Int32Array.from(flagged) };
    },
  };
}

/** All candidates. */
export const all = (): CandidateSelection => chooseCandidates('all', ({ negatives }) => ({ chosen: negatives }));

/** The `count` negatives of the highest teacher scores: hard, but often unlabelled relevant documents. */
export const topK = ({ count = 8 }: { count?: number } = {}): CandidateSelection =>
  chooseCandidates('top-k', ({ negatives }) => ({ chosen: negatives.slice(0, count) }));

export const filters = ['none', 'absolute', 'margin', 'percentage'] as const;

export interface PositiveAwareOptions {
  /**
   * Keeps a candidate c where its score is below
   * `absolute`: threshold; `margin`: score(positive) - threshold; `percentage`: (1 - threshold) score(positive).
   */
  filter?: (typeof filters)[number];
  /** 0.7, 0.05 and 0.05 by default for scores from 0 to 1; for logits choose `margin` and a threshold of 1 to 3. */
  threshold?: number;
  /** Negatives per query. */
  count?: number;
  /** `hardest`: the highest scores kept; `softmax`: drawn without replacement in proportion to exp(score / temperature). */
  take?: 'hardest' | 'softmax';
  /** Divides the teacher's scores in the draw. */
  temperature?: number;
  /** Which positive counts if there are several: `minimum` is strict, `maximum` lenient. */
  of?: 'minimum' | 'maximum';
}

/**
 * Hard negatives by the teacher's scores, without those that are probably relevant.
 *
 * The comparison is strict: a candidate at the threshold is dropped. Candidates without a teacher score pass.
 * Where nothing passes, or a percentage is used with a positive whose score is not above 0, the lowest-scored negatives are taken
 * (the safest ones) and the list is flagged. Without a known positive only `absolute` filters.
 *
 * @throws InputError if a percentage is used with scores outside [-1, 1]: raw logits have no meaningful zero
 * @example positiveAware({ filter: 'margin', threshold: 2, count: 7 }).select({ offsets, scores, positives })
 * @source Moreira et al. 2024 (arXiv 2407.15831), TopK-Abs, TopK-MarginPos, TopK-PercPos
 */
export function positiveAware(options: PositiveAwareOptions = {}): CandidateSelection {
  const { filter = 'percentage', count = 8, take = 'hardest', temperature = 1, of = 'minimum' } = options;
  const threshold = options.threshold ?? (filter === 'absolute' ? 0.7 : 0.05);
  return chooseCandidates('positive-aware', ({ scores, positives, negatives, random }) => {
    if (filter === 'percentage') refuseLogits(scores);
    const own = positives.map((k) => scores[k]).filter((s) => !Number.isNaN(s));
    const positive = own.length ? own.reduce((a, b) => Math[of === 'minimum' ? 'min' : 'max'](a, b)) : undefined;
    const limit = limitOf(filter, threshold, positive);
    const kept = limit === undefined ? [] : negatives.filter((k) => Number.isNaN(scores[k]) || scores[k] < limit);
    if (!kept.length && negatives.length) return { chosen: negatives.slice(-count), fell: true };
    return { chosen: take === 'hardest' ? kept.slice(0, count) : draw(kept, scores, count, temperature, random) };
  });
}

function limitOf(filter: PositiveAwareOptions['filter'], threshold: number, positive?: number): number | undefined {
  if (filter === 'none') return Number.POSITIVE_INFINITY;
  if (filter === 'absolute') return threshold;
  if (positive === undefined) return Number.POSITIVE_INFINITY;
  if (filter === 'margin') return positive - threshold;
  // A fraction of a negative score is above the score.
  return positive > 0 ? (1 - threshold) * positive : undefined;
}

function refuseLogits(scores: Float64Array): void {
  for (const s of scores)
    if (Math.abs(s) > 1 + 1e-6)
      throw new InputError({
        code: 'selection.percentage-of-logits',
        subject: "a percentage of the positive's score (selection.filter: percentage)",
        expected: 'scores that are probabilities or cosines',
        received: `a score of ${s}`,
        remedy: "use filter 'margin' with a threshold of 1 to 3 for logits",
      });
}

/** Draws without replacement in proportion to exp(score / T); unscored candidates count as the lowest scored. */
function draw(kept: number[], scores: Float64Array, count: number, temperature: number, random: Random): number[] {
  const scored = kept.map((k) => scores[k]).filter((s) => !Number.isNaN(s));
  const lowest = scored.length ? scored.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY) : 0;
  const p = softmax(
    kept.map((k) => (Number.isNaN(scores[k]) ? lowest : scores[k])),
    temperature,
  );
  const left = kept.map((k, j) => ({ k, p: p[j] }));
  const chosen: number[] = [];
  while (left.length && chosen.length < count) {
    const at = drawFrom((j) => left[j].p, left.length, random);
    chosen.push(left.splice(Math.max(0, at), 1)[0].k);
  }
  return chosen;
}
