/** @file The stage that adds changed documents to the candidates of training queries. */
import type { Dataset } from '../../data/dataset.ts';
import type { CandidateLists } from '../../data/lists.ts';
import { relevantDocuments } from '../../data/relevant.ts';
import { type ChangedCandidates, changedCandidates } from '../../generation/perturbed/changed-candidates.ts';
import { defineStage } from '../../run/stages/stage.ts';

/** Lists with changed documents; their scores are the teacher's to give. */
export const changedDocuments = defineStage({
  name: 'changed documents',
  options: ['candidates.changed', 'seed'],
  unrecorded: ['data.splits'],
  make(
    { candidates, seed, data: { splits } },
    { data, lists }: { data: Dataset; lists: CandidateLists },
    tools,
  ): ChangedCandidates {
    const relevant = relevantDocuments(data, splits.train);
    const none = new Set<number>();
    const known = (query: number): ReadonlySet<number> => new Set(relevant.get(query)?.keys() ?? none);
    const made = changedCandidates(data, lists, known, candidates.changed ?? 0, seed);
    tools.note(`${made.texts.length} changed documents are among the candidates`);
    return made;
  },
});
