/** @file Generates queries from documents, each judged relevant to its document. */
import { InputError } from '../common/errors.ts';
import { Random } from '../math/random.ts';
import type { Dataset, Qrels } from './dataset.ts';
import { TextTableBuilder, unjudgedQueries, unknownSplit } from './dataset.ts';
import { splitOf } from './files/splits.ts';
import { candidateLists } from './lists.ts';
import { FEWEST_WORDS, TextMaker } from './text/made-texts.ts';

export interface MadeOptions {
  seed?: number;
  /** Queries a document at most. */
  each?: number;
  /** Queries in all at most. */
  most?: number;
  /** Share of the documents whose queries are held out, for dev and again for test. */
  heldOut?: number;
  /** What their ids begin with. */
  ids?: string;
  /** Whether queries that nothing judges may teach where others are judged. */
  unlabelled?: boolean;
}

/** Queries held out for a split at most: more say little more. */
const MOST_HELD_OUT = 500;
/** Fewer documents than this are more likely another kind of file given by mistake. */
export const FEWEST_ALONE = 10;
/** A split of fewer documents holds nothing out. */
const FEWEST_DOCUMENTS = 3;

/** The warning about data without judgements. */
const WARNING = 'data.made-queries';

/** Fewer queries that nothing judges do not stand for generated ones where others are judged. */
const FEWEST_TEACHING = 100;

/** The splits that a data set has when queries were made for it. */
const SPLITS = ['dev', 'test', 'train'] as const;

/**
 * A data set gets queries for what it lacks of the splits train, dev and, where nothing is judged, test: statements, keywords and
 * titles with keywords of its documents, in turn (text/made-texts.ts). Those of some documents are held out as dev and test, and
 * training never sees them. They are generated: results on them show that something was learned, not the quality on real queries.
 *
 * Queries that are there and that nothing judges stay, unjudged, for training: only what is missing of dev and test is made then.
 * @throws InputError where there is no query and there are fewer than ten documents
 */
export function withMadeQueries(dataset: Dataset, options: MadeOptions = {}): Dataset {
  const { seed = 0, each = 3, most = 200_000, heldOut = 0.1, unlabelled = true, ids = 'made' } = options;
  const { documents } = dataset;
  if (!dataset.queries.length && documents.length < FEWEST_ALONE)
    throw new InputError({
      code: 'data.few-documents',
      subject: `${dataset.name} holds no query, and ${documents.length} documents are too few to make queries of`,
      expected: `at least ${FEWEST_ALONE} documents, or queries and judgements (queries.jsonl, qrels/*.tsv)`,
      remedy: 'add documents or queries',
    });
  const own = dataset.queries;
  const open = own.length ? unjudgedQueries(dataset).length : 0;
  const unjudged = !dataset.splits.length || (unlabelled && open >= FEWEST_TEACHING) ? open : 0;
  const random = Random.of(seed, 'made queries');
  const order = random.shuffle(Int32Array.from({ length: documents.length }, (_, i) => i));
  const least = documents.length >= FEWEST_DOCUMENTS ? 1 : 0;
  const out = Math.min(MOST_HELD_OUT, Math.max(least, Math.floor(documents.length * heldOut)));
  // Test queries are made where nothing is judged; a dev split can be measured on.
  const { splits: there } = dataset;
  const has = { dev: there.some((s) => splitOf(s) === 'dev'), test: there.length > 0, train: there.includes('train') };
  const missing = SPLITS.filter((s) => !has[s]);
  const held: readonly string[] = missing.filter((s) => s !== 'train');
  const queries = new TextTableBuilder();
  const given = new Set<string>();
  for (let i = 0; i < own.length; i++) {
    queries.add(own.ids[i], own.text(i), own.title?.(i), own.metadata?.(i));
    given.add(own.text(i));
  }
  const splits: Record<string, Map<string, Map<string, number>>> = {};
  for (const split of missing) splits[split] = new Map();
  const asked = new Map<string, string>();
  const maker = new TextMaker(documents, random);
  // A split that would stay empty takes further documents.
  let [place, seen, gave] = [out ? 0 : held.length, 0, 0];
  for (const d of order) {
    const split = held[place] ?? 'train';
    if (unjudged && split === 'train') break;
    if (!splits[split]) continue;
    for (const text of maker.of(d, split === 'train' ? each : 1)) {
      if (queries.length - own.length >= most) break;
      if (given.has(text)) continue;
      const known = asked.get(text);
      // Two documents may give the same text. Held out ones stay out of training.
      if (known !== undefined) {
        splits[split].get(known)?.set(documents.ids[d], 1);
        continue;
      }
      let id = `${ids}-${queries.length}`;
      while (queries.has(id)) id = `${id}x`;
      asked.set(text, id);
      queries.add(id, text);
      splits[split].set(id, new Map([[documents.ids[d], 1]]));
      gave++;
    }
    seen++;
    if (split !== 'train' && seen >= out && gave) [place, seen, gave] = [place + 1, 0, 0];
  }
  const table = queries.build();
  const made = table.length - own.length;
  const filled = missing.filter((s) => splits[s].size || (s === 'train' && unjudged));
  const kept = [...new Set([...dataset.splits, ...filled])].sort();
  const { candidates } = dataset;
  return {
    ...dataset,
    queries: own.unordered ? { ...table, unordered: true } : table,
    splits: kept,
    qrels: (split): Qrels => {
      if (!kept.includes(split)) throw unknownSplit(split, kept, dataset.name);
      return splits[split] ?? dataset.qrels(split);
    },
    // Nothing lists candidates of a split that was made.
    ...(candidates && { candidates: (split) => (splits[split] ? candidateLists([]) : candidates(split)) }),
    ...(dataset.splits.length && unjudged ? {} : { made }),
    generated: filled.filter((s) => splits[s].size),
    warnings: [
      ...(dataset.warnings ?? []),
      { code: WARNING, text: said({ given: dataset.splits, missing: filled, unjudged, made }) },
    ],
  };
}

/** What was made, and what figures on it mean. */
function said({
  given,
  missing,
  unjudged,
  made,
}: {
  given: readonly string[];
  missing: readonly string[];
  unjudged: number;
  made: number;
}): string {
  if (!given.length && !unjudged && !made)
    return `there are no queries, and none can be generated from the documents, which have no title and no sentence of ${FEWEST_WORDS} words: add queries of users (queries.jsonl, qrels/test.tsv)`;
  if (!given.length)
    return unjudged
      ? `nothing judges the ${unjudged} queries: the teacher's ranking is their only supervision. Dev and test are ${made} queries generated from the documents, and results on them say little about real queries: judge some queries (qrels/dev.tsv and qrels/test.tsv, lines query-id corpus-id score)`
      : `there are no queries: ${made} were generated from the documents, and results refer to these, not to real queries; add queries of users (queries.jsonl, qrels/test.tsv)`;
  if (!missing.includes('train'))
    return `there is no split 'train', and no query can be generated from the documents, whose sentences have fewer than ${FEWEST_WORDS} words or give no other texts than those of other queries: add qrels/train.tsv, or name the split that may be learned from under data.splits.train`;
  const taught = unjudged
    ? `the ${unjudged} queries that nothing judges teach, by the teacher's ranking`
    : 'queries generated from the documents teach';
  const chosen = missing.includes('dev') ? '; the dev split is generated too' : '';
  return `there is no split 'train': ${taught}${chosen} (${made} generated). Judged queries teach better: add qrels/train.tsv, or name the split that may be learned from under data.splits.train`;
}
