/** @file Old and new data as one data set, for a student that goes on learning. */
import { InputError } from '../../common/errors.ts';
import { Random } from '../../math/random.ts';
import {
  type Dataset,
  type DataWarning,
  isGenerated,
  judgedQueries,
  type Qrels,
  TextTableBuilder,
  unjudgedQueries,
  unknownSplit,
} from '../dataset.ts';
import { type CandidateLists, candidateLists } from '../lists.ts';

/** Splits of the parts, by what a report calls them. */
export const partSplits = ['old dev', 'old test', 'new dev', 'new test'] as const;

export interface ContinuedOptions {
  splits: { train: string; dev: string | null; test: string };
  /** Share of old queries among the training queries. */
  replay: number;
  /** Whether new queries without a judgement are trained on. */
  unlabelled: boolean;
  seed: number;
}

/**
 * Documents of both, the new queries, and of the old ones those of dev and test and a random sample of the training queries. The
 * split `train` is the new one with the sample, dev is both (weights are chosen for both), test is the new one; the parts are
 * splits of their own (partSplits).
 *
 * An id names one text: a document that the new data changed counts as the new data has it, and a query that was changed is
 * refused.
 *
 * @throws InputError for a query id with two texts, and where there is nothing new to learn
 */
export function continuedDataset(old: Dataset, fresh: Dataset, options: ContinuedOptions): Dataset {
  const { splits, replay, unlabelled, seed } = options;
  const judged = (set: Dataset, split: string | null): number[] =>
    split !== null && set.splits.includes(split) ? judgedQueries(set, split) : [];
  const learned = judged(fresh, splits.train).length + (unlabelled ? unjudgedQueries(fresh).length : 0);
  if (!learned)
    throw new InputError({
      code: 'data.nothing-new',
      subject: `${fresh.name} has no query of the split '${splits.train}'${unlabelled ? ' and none without a judgement' : ''}: there is nothing new to learn`,
      received: `the splits ${fresh.splits.join(', ') || '(none)'}`,
      remedy: 'name the split under data.splits.train, or add a file of judgements (qrels)',
    });
  const pool = judged(old, splits.train);
  const count = Math.min(pool.length, Math.round((learned * replay) / (1 - replay)));
  const replayed = new Set(Random.of(seed, 'replay').shuffle(Int32Array.from(pool)).subarray(0, count));

  const { table: documents, changed } = documentsOf(old, fresh);
  const kept = new Set([...replayed, ...judged(old, splits.dev), ...judged(old, splits.test)]);
  const queries = new TextTableBuilder();
  for (let q = 0; q < old.queries.length; q++) if (kept.has(q)) addText(queries, old.queries, q);
  const twice: string[] = [];
  for (let q = 0; q < fresh.queries.length; q++) {
    const id = fresh.queries.ids[q];
    const before = old.queries.indexOf(id);
    if (before !== undefined && old.queries.text(before) !== fresh.queries.text(q)) twice.push(id);
    else if (!queries.has(id)) addText(queries, fresh.queries, q);
  }
  if (twice.length)
    throw new InputError({
      code: 'data.query-changed',
      subject: `${twice.length} query ids of ${fresh.name} have another text in ${old.name}, e.g. '${twice[0]}'`,
      remedy: 'give new queries ids of their own, e.g. with a prefix for each day',
    });

  const oldOnly = (split: string | null, among?: ReadonlySet<number>): Qrels =>
    qrelsOf(old, split, (id) => !among || among.has(old.queries.indexOf(id) as number));
  const sets = new Map<string, Qrels>([
    [splits.train, joinedQrels(oldOnly(splits.train, replayed), qrelsOf(fresh, splits.train))],
    ['old test', oldOnly(splits.test)],
    ['new test', qrelsOf(fresh, splits.test)],
  ]);
  if (splits.dev !== null) {
    sets.set('old dev', oldOnly(splits.dev));
    sets.set('new dev', qrelsOf(fresh, splits.dev));
    sets.set(splits.dev, joinedQrels(oldOnly(splits.dev), qrelsOf(fresh, splits.dev)));
  }
  const test = qrelsOf(fresh, splits.test);
  sets.set(splits.test, test.size ? test : oldOnly(splits.test));
  for (const [split, own] of sets) if (!own.size) sets.delete(split);
  const sources: readonly [name: string | null, of: Dataset[], split: string | null][] = [
    [splits.train, [old, fresh], splits.train],
    ['old test', [old], splits.test],
    ['new test', [fresh], splits.test],
    ['old dev', [old], splits.dev],
    ['new dev', [fresh], splits.dev],
    [splits.dev, [old, fresh], splits.dev],
    [splits.test, [test.size ? fresh : old], splits.test],
  ];
  const generated = sources.flatMap(([name, of, split]) =>
    name !== null && sets.has(name) && areGenerated(of, split) ? [name] : [],
  );

  const warnings: DataWarning[] = [...(old.warnings ?? []), ...(fresh.warnings ?? [])];
  const seen = [...judged(old, splits.dev), ...judged(old, splits.test)].filter((q) =>
    qrelsOf(fresh, splits.train).has(old.queries.ids[q]),
  ).length;
  if (seen)
    warnings.push({
      code: 'data.continued-leak',
      text: `${seen} queries of the old dev and test splits are among the new training queries: figures on the old data flatter the student`,
    });
  const table = queries.build();
  const known = [...sets.keys()];
  const unordered = old.queries.unordered || fresh.queries.unordered;
  const whole: Dataset = {
    name: fresh.name,
    documents,
    queries: unordered ? { ...table, unordered } : table,
    splits: known,
    ...(generated.length && { generated }),
    qrels(split) {
      const found = sets.get(split);
      if (!found) throw unknownSplit(split, known, `${old.name} with ${fresh.name}`);
      return found;
    },
    notes: [
      ...(old.notes ?? []).map((n) => `old data: ${n}`),
      ...(fresh.notes ?? []).map((n) => `new data: ${n}`),
      `${learned} new training queries, ${count} of ${pool.length} old ones replayed; ${documents.length} documents${changed ? `, ${changed} of them as the new data has them` : ''}`,
    ],
    warnings,
  };
  const lists = (split: string): CandidateLists => joinedLists(old, fresh, split, whole);
  return old.candidates && fresh.candidates ? { ...whole, candidates: lists } : whole;
}

/** Whether all queries of a split were generated, in each of the data sets that have it. */
function areGenerated(sets: readonly Dataset[], split: string | null): boolean {
  const own = sets.filter((set) => split !== null && set.splits.includes(split));
  return own.length > 0 && own.every((set) => isGenerated(set, split));
}

function addText(into: TextTableBuilder, from: Dataset['queries'], i: number): void {
  into.add(from.ids[i], from.text(i), from.title?.(i), from.metadata?.(i));
}

/** The documents of both; the old table itself where the new data has no others. */
function documentsOf(old: Dataset, fresh: Dataset): { table: Dataset['documents']; changed: number } {
  if (fresh.documents === old.documents) return { table: old.documents, changed: 0 };
  const builder = new TextTableBuilder();
  let changed = 0;
  for (let d = 0; d < old.documents.length; d++) {
    const again = fresh.documents.indexOf(old.documents.ids[d]);
    const newer = again !== undefined && fresh.documents.text(again) !== old.documents.text(d);
    changed += Number(newer);
    if (newer) addText(builder, fresh.documents, again);
    else addText(builder, old.documents, d);
  }
  for (let d = 0; d < fresh.documents.length; d++)
    if (!builder.has(fresh.documents.ids[d])) addText(builder, fresh.documents, d);
  return { table: builder.build(), changed };
}

function qrelsOf(set: Dataset, split: string | null, keep: (query: string) => boolean = () => true): Qrels {
  if (split === null || !set.splits.includes(split)) return new Map();
  return new Map([...set.qrels(split)].filter(([query]) => keep(query)));
}

/** Judgements of both; of a pair that both judge, the second counts. */
function joinedQrels(a: Qrels, b: Qrels): Qrels {
  const all = new Map([...a].map(([query, grades]) => [query, new Map(grades)]));
  for (const [query, grades] of b) all.set(query, new Map([...(all.get(query) ?? []), ...grades]));
  return all;
}

/** The lists of both data sets for queries of the whole one; of a query that both list, the new one. */
function joinedLists(old: Dataset, fresh: Dataset, split: string, whole: Dataset): CandidateLists {
  const found = new Map<number, { query: number; documents: number[]; scores: number[] }>();
  for (const set of [old, fresh]) {
    if (!set.splits.includes(split)) continue;
    const lists = set.candidates?.(split);
    for (const [i, q] of (lists?.queries ?? []).entries()) {
      const query = whole.queries.indexOf(set.queries.ids[q]);
      if (query === undefined || !lists) continue;
      const at = lists.documents.subarray(lists.offsets[i], lists.offsets[i + 1]);
      found.set(query, {
        query,
        documents: Array.from(at, (d) => whole.documents.indexOf(set.documents.ids[d]) as number),
        scores: Array.from(lists.scores.subarray(lists.offsets[i], lists.offsets[i + 1])),
      });
    }
  }
  return candidateLists([...found.values()].sort((a, b) => a.query - b.query));
}
