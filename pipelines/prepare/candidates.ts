/** @file The candidates of queries: labelled positives first, then what was found; and the teacher's scores of them. */

import { candidateSource, findCandidates } from '../../candidates/find-candidates.ts';
import type { Dataset } from '../../data/dataset.ts';
import { type CandidateLists, joined, withoutUnscored } from '../../data/lists.ts';
import { withQueries } from '../../generation/spans.ts';
import { trainingQueries } from '../../run/data.ts';
import { keepArrays } from '../../run/stages/keep-arrays.ts';
import { defineStage } from '../../run/stages/stage.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import { pairsOf, scoreCandidates } from '../../teachers/score-pairs.ts';

/** The candidates of the training queries and of generated ones; scores are NaN but for given lists. */
export const candidates = defineStage({
  name: 'candidates',
  options: ['candidates.source', 'candidates.count', 'candidates.onEmpty'],
  // What these name counts by content: the data, and the student, the teacher, the dev split or the seed where the source reads one.
  unrecorded: ['data', 'seed', 'student', 'teacher', 'train.provider', 'train.threads'],
  unchanged: 'nothing they depend on has changed',
  // No model is asked.
  foreseen: ({ candidates: { source } }) =>
    source === 'auto' || source === 'bm25' || source === 'random' || source === 'given',
  async make(
    options,
    {
      data,
      generated = [],
      embedder,
    }: {
      data: Dataset;
      generated?: readonly string[];
      embedder?: OpenedTeacher;
      student?: unknown;
      teacher?: unknown;
      seed?: unknown;
      dev?: unknown;
    },
    { note, time, watch },
  ): Promise<CandidateLists> {
    const source = candidateSource(options.candidates.source, data, options.data.splits.train);
    if (options.candidates.source === 'auto' && source === 'given')
      note("candidates are those that the rows list ('candidates.source: bm25' searches for others)");
    const dataset = withQueries(data, generated);
    const find = (queries: readonly number[], from: typeof source): Promise<CandidateLists> =>
      time('candidates', () =>
        findCandidates(options, dataset, options.data.splits.train, queries, embedder?.teacher, watch, from),
      );
    const found = await find(trainingQueries(options, data), source);
    if (!generated.length) return found;
    const positions = generated.map((_, i) => data.queries.length + i);
    return joined(found, await find(positions, source === 'given' ? (embedder ? 'embedder' : 'bm25') : source));
  },
  keep: keepArrays<CandidateLists>(
    'candidates',
    ({ queries, offsets, documents, scores }) => ({ queries, offsets, documents, scores }),
    (arrays) => arrays as unknown as CandidateLists,
  ),
});

/** The teacher's scores of candidates; those without a finite one are left out. */
export const teacherScores = defineStage({
  name: 'teacher scores',
  options: [],
  unrecorded: ['teacher'],
  async make(
    _,
    { lists, data, opened }: { lists: CandidateLists; data: Dataset; opened: OpenedTeacher },
    { time, warn, watch },
  ): Promise<CandidateLists> {
    const scored = await time('score', () => scoreCandidates(lists, data, opened.teacher, watch));
    const { lists: kept, leftOut } = withoutUnscored(scored);
    if (leftOut)
      warn(
        'teacher.not-finite',
        `${leftOut} of ${scored.documents.length} candidates are left out: the teacher's scores of them are not finite`,
      );
    return kept;
  },
  async cached({ teacher }, { lists, data, opened }, cache) {
    if (teacher?.kind === 'scores') return 'they are given';
    if (!lists || !data || !opened) return undefined;
    if (!lists.scores.some(Number.isNaN)) return 'they come with the candidates';
    const pairs = pairsOf(lists, data);
    const count = cache ? cache.missingScores(opened.key, pairs) : pairs.length;
    return { count, of: pairs.length, unit: 'pairs' };
  },
});
