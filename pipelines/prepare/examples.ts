/** @file From scored candidates to the examples of a training set. */
import { InputError } from '../../common/errors.ts';
import { toSelection } from '../../config/methods.ts';
import type { Options } from '../../config/options.ts';
import type { Dataset } from '../../data/dataset.ts';
import type { Relevant } from '../../data/judged/positions.ts';
import type { CandidateLists } from '../../data/lists.ts';
import { neverNegative, relevantDocuments } from '../../data/relevant.ts';
import { warnOfScores } from '../../evaluation/diagnostics/warnings.ts';
import { defineStage } from '../../run/stages/stage.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import { selectExamples } from '../../training/batches/examples.ts';

/** Relevant documents with grades by query, as positions; of the first so many queries where the config keeps no more labels. */
export const labelsOf = ({ data }: Options<'data.labelled' | 'data.splits'>, dataset: Dataset): Relevant => {
  const all = relevantDocuments(dataset, data.splits.train);
  return data.labelled === undefined ? all : new Map([...all].slice(0, data.labelled));
};

/** Examples: known positives first, then the negatives that the selection keeps. Queries without a candidate are left out. */
export const examples = defineStage({
  name: 'examples',
  options: ['selection', 'seed', 'train.pseudoLabels', 'data.labelled'],
  unrecorded: ['data.splits'],
  make(
    options,
    { data, lists, factors, read }: { data: Dataset; lists: CandidateLists; factors?: Float32Array; read: boolean },
    { note, warn },
  ): Examples {
    if (read) warnOfScores(lists, warn);
    const relevant = labelsOf(options, data);
    const never = neverNegative(data, options.data.splits.train, relevant);
    const { examples: made, leftOut } = selectExamples(
      lists,
      { relevant, never },
      { selection: toSelection(options.selection), seed: options.seed, pseudoLabels: options.train.pseudoLabels },
      factors,
    );
    if (leftOut) note(`${leftOut} queries have no candidate and are left out`);
    if (!made.queries.length)
      throw new InputError({
        code: 'run.nothing-to-learn',
        subject: `no query of the split '${options.data.splits.train}' has a candidate`,
        remedy: 'choose another candidates.source or add queries',
      });
    note(`${made.queries.length} training queries with ${made.documents.length} candidates`);
    return made;
  },
});
