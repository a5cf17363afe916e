/** @file A teacher's scores of lists of candidates. */
import type { RunControl } from '../common/progress.ts';
import type { Dataset } from '../data/dataset.ts';
import type { CandidateLists } from '../data/lists.ts';
import type { Pair, Teacher } from './teacher.ts';

/** Every candidate with its query, in order. */
export function pairsOf(
  lists: Pick<CandidateLists, 'queries' | 'offsets' | 'documents'>,
  { queries, documents }: Pick<Dataset, 'queries' | 'documents'>,
): Pair[] {
  const pairs: Pair[] = [];
  for (let i = 0; i < lists.queries.length; i++) {
    const q = lists.queries[i];
    const query = queries.text(q);
    for (let at = lists.offsets[i]; at < lists.offsets[i + 1]; at++) {
      const d = lists.documents[at];
      pairs.push({ queryId: queries.ids[q], documentId: documents.ids[d], query, document: documents.text(d) });
    }
  }
  return pairs;
}

/** Scores every candidate that has none. */
export async function scoreCandidates(
  lists: CandidateLists,
  dataset: Dataset,
  teacher: Teacher | undefined,
  watch: RunControl,
): Promise<CandidateLists> {
  if (!teacher || lists.scores.every((s) => !Number.isNaN(s))) return lists;
  return { ...lists, scores: await teacher.score(pairsOf(lists, dataset), watch) };
}
