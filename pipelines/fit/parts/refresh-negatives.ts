/** @file Negatives found again with the current student, while it trains. */

import { needsOf } from '../../../config/losses.ts';
import { textsAt } from '../../../data/dataset.ts';
import { search } from '../../../retrieval/exact-search.ts';
import { refreshesAt, refreshNegatives } from '../../../selection/index.ts';
import type { Weights } from '../../../students/student.ts';
import { encoderOf, encodingOf } from '../../../students/student-scores.ts';
import { scoreCandidates } from '../../../teachers/score-pairs.ts';
import type { Examples } from '../../../training/batches/dual-encoder-batch.ts';
import { negativesOf, positivesOf, withNegatives } from '../../../training/batches/examples.ts';
import { type Fit, frozenOf, type Renewal } from './fit.ts';

/** Hits in addition to those that negatives are drawn from, so that known positives can be left out. */
const SPARE = 8;

/**
 * What runs before each step to keep the examples' candidates up to date: known positives stay first, negatives are drawn from
 * what the student finds now, and the teacher scores them where it is asked for scores.
 *
 * The training state carries what was found, and where training goes on from between two refreshes nothing is searched again.
 *
 * @source Xiong et al., ICLR 2021 (arXiv 2007.00808)
 */
export function refresher(fit: Fit): Renewal | undefined {
  const { options, inputs, seed, time, note, watch } = fit;
  const { refresh, count } = options.candidates;
  if (!refresh) return undefined;
  let current = -1;
  return async (step, weights, examples) => {
    if (step < refresh.warmup) return examples;
    const last = refreshesAt(step, refresh) ? step : step - ((step - refresh.warmup) % refresh.every);
    if (last === current) return examples;
    current = last;
    // The first step after a resume: what was found at the last refresh came with the state.
    if (last < step) return examples;
    const found = await time('refresh', async () => hitsOf(fit, examples, await weights(), refresh.depth + SPARE));
    const negatives = refreshNegatives(
      {
        hits: found,
        relevant: (i) => new Set([...examples.relevant(examples.queries[i]), ...positivesOf(examples, i)]),
        previous: negativesOf(examples),
      },
      { count: count - 1, depth: refresh.depth, keep: refresh.keep, seed: seed + step },
    );
    const unscored = withNegatives(examples, negatives);
    const asks = needsOf(inputs.losses).has('teacher');
    const { scores } = asks
      ? await scoreCandidates(unscored, inputs.data, inputs.teacher?.teacher, watch)
      : { scores: new Float32Array(unscored.documents.length) };
    const overlap = Number.isNaN(negatives.overlap) ? '' : `, ${(100 * negatives.overlap).toFixed(0)} % as before`;
    note(`step ${step}: negatives found again by the student${overlap}`);
    return { ...unscored, scores };
  };
}

async function hitsOf(fit: Fit, examples: Examples, weights: Weights, depth: number) {
  const { options, inputs, watch: given } = fit;
  const { queryTokens, documentTokens } = options.student;
  const encoder = await encoderOf(inputs.student, weights, await encodingOf(options));
  try {
    const watch = { ...given, onProgress: undefined };
    const queries = await encoder.encode(textsAt(inputs.data, Array.from(examples.queries)), {
      ...watch,
      maxLength: queryTokens,
      role: 'query',
    });
    const frozen = frozenOf(fit)?.data;
    const documents =
      frozen ??
      (await encoder.encode(inputs.data.documents, { ...watch, maxLength: documentTokens, role: 'document' }));
    return await search(queries, documents, encoder.dimensions, depth, watch);
  } finally {
    await encoder.dispose();
  }
}
