/** @file Changed documents among the candidates of training queries (KAFT): irrelevant, empty, negated, with another's attributes. */
import { hashAll } from '../../common/files.ts';
import type { Dataset } from '../../data/dataset.ts';
import { type CandidateLists, candidateLists } from '../../data/lists.ts';
import { listOnDemand } from '../../data/table/ids.ts';
import { rowOf } from '../../math/ragged.ts';
import { Random } from '../../math/random.ts';
import { documentFrequencies, negated, swapped } from './perturb.ts';

/** Lists with further candidates, and the texts of those that the corpus does not have: their positions follow its own. */
export interface ChangedCandidates {
  lists: CandidateLists;
  texts: string[];
}

/**
 * Adds to a share of the lists that have a relevant document: a copy of it with words of the next candidate in place of those that the
 * query names, a negated copy, an irrelevant document and an empty one. A teacher scores them as it scores the others.
 *
 * @param relevant of a query, by position
 * @source knowledge-aware fine-tuning: Li et al. 2022 (arXiv 2211.05110)
 */
export function changedCandidates(
  dataset: Dataset,
  lists: CandidateLists,
  relevant: (query: number) => ReadonlySet<number>,
  share: number,
  seed: number,
): ChangedCandidates {
  const { documents, queries } = dataset;
  const frequency = documentFrequencies(documents);
  const base = documents.length;
  const texts: string[] = [''];
  const changed = Array.from(lists.queries, (query, i) => {
    const own = Array.from(rowOf(lists.documents, lists.offsets, i));
    const scores = Array.from(rowOf(lists.scores, lists.offsets, i));
    const random = Random.of(seed, `changed ${queries.ids[query]}`);
    const known = relevant(query);
    const first = own.find((d) => known.has(d));
    if (first === undefined || random.uniform() >= share) return { query, documents: own, scores };
    const text = documents.text(first);
    const other = own.find((d) => !known.has(d));
    const make = (made: string | undefined): void => {
      if (made === undefined || made === text) return;
      own.push(base + texts.length);
      texts.push(made);
    };
    make(
      other === undefined
        ? undefined
        : swapped({ query: queries.text(query), text, other: documents.text(other) }, frequency),
    );
    make(negated(text));
    const anywhere = random.integer(base);
    if (!known.has(anywhere) && !own.includes(anywhere)) own.push(anywhere);
    own.push(base);
    while (scores.length < own.length) scores.push(Number.NaN);
    return { query, documents: own, scores };
  });
  return { lists: candidateLists(changed), texts };
}

/** The data set with further documents, which no judgement names. */
export function withDocuments(dataset: Dataset, texts: readonly string[]): Dataset {
  if (!texts.length) return dataset;
  const { documents } = dataset;
  const length = documents.length + texts.length;
  const ids = listOnDemand(length, (i) =>
    i < documents.length ? documents.ids[i] : `changed-${i - documents.length}`,
  );
  return {
    ...dataset,
    documents: {
      ids,
      length,
      text: (i) => (i < documents.length ? documents.text(i) : texts[i - documents.length]),
      title: documents.title && ((i) => (i < documents.length ? (documents.title?.(i) ?? '') : '')),
      indexOf: (id) => documents.indexOf(id),
      hash: hashAll([documents.hash, ...texts]),
      bytes: documents.bytes,
    },
  };
}
