/** @file Generates queries from documents, each judged relevant to its document. */
import { InputError } from '../common/errors.ts';
import { Random } from '../math/random.ts';
import type { Dataset, TextTable } from './dataset.ts';
import { TextTableBuilder, unknownSplit } from './dataset.ts';

export interface MadeOptions {
  seed?: number;
  /** Queries a document at most. */
  each?: number;
  /** Queries in all at most. */
  most?: number;
  /** Share of the documents whose queries are held out, for dev and again for test. */
  heldOut?: number;
}

/** Queries held out for a split at most: more say little more. */
const MOST_HELD_OUT = 500;
/** Fewer documents than this are more likely another kind of file given by mistake. */
export const FEWEST_ALONE = 10;
/** A split of fewer documents holds nothing out. */
const FEWEST_DOCUMENTS = 3;
/** Minimum and maximum of words in a span, like a search query. */
const SPAN = [3, 9] as const;

/** The warning about data without judgements. */
const WARNING = 'data.made-queries';

/**
 * A data set of documents alone gets queries: titles, sentences and spans of words, in turn. Those of some documents are held
 * out as dev and test, and training never sees them. They are generated: results on them show that something was learned, not the
 * quality on real queries.
 *
 * Queries that are there and that nothing judges stay, unjudged, for training: only dev and test are made then.
 * @throws InputError where there is no query and there are fewer than ten documents
 */
export function withMadeQueries(dataset: Dataset, options: MadeOptions = {}): Dataset {
  const { seed = 0, each = 3, most = 200_000, heldOut = 0.1 } = options;
  const { documents } = dataset;
  if (!dataset.queries.length && documents.length < FEWEST_ALONE)
    throw new InputError({
      code: 'data.few-documents',
      subject: `${dataset.name} holds no query, and ${documents.length} documents are too few to make queries of`,
      expected: `at least ${FEWEST_ALONE} documents, or queries and judgements (queries.jsonl, qrels/*.tsv)`,
      remedy: 'add documents or queries',
    });
  const random = Random.of(seed, 'made queries');
  const order = random.shuffle(Int32Array.from({ length: documents.length }, (_, i) => i));
  const least = documents.length >= FEWEST_DOCUMENTS ? 1 : 0;
  const out = Math.min(MOST_HELD_OUT, Math.max(least, Math.floor(documents.length * heldOut)));
  const queries = new TextTableBuilder();
  const own = dataset.queries;
  const given = new Set<string>();
  for (let i = 0; i < own.length; i++) {
    queries.add(own.ids[i], own.text(i));
    given.add(own.text(i));
  }
  const splits = { dev: new Map(), test: new Map(), train: new Map() } as Record<
    string,
    Map<string, Map<string, number>>
  >;
  const asked = new Map<string, string>();
  for (const [at, d] of (own.length ? order.subarray(0, 2 * out) : order).entries()) {
    const split = at < out ? 'dev' : at < 2 * out ? 'test' : 'train';
    for (const text of madeOf(documents, d, split === 'train' ? each : 1, random)) {
      if (queries.length - own.length >= most) break;
      if (given.has(text)) continue;
      const known = asked.get(text);
      // Two documents may give the same text. Held out ones stay out of training.
      if (known !== undefined) {
        splits[split].get(known)?.set(documents.ids[d], 1);
        continue;
      }
      let id = `made-${queries.length}`;
      while (queries.has(id)) id = `${id}x`;
      asked.set(text, id);
      queries.add(id, text);
      splits[split].set(id, new Map([[documents.ids[d], 1]]));
    }
  }
  const table = queries.build();
  const made = table.length - own.length;
  const kept = Object.keys(splits).filter((s) => splits[s].size || (s === 'train' && own.length));
  return {
    ...dataset,
    queries: table,
    splits: kept,
    qrels: (split) => {
      if (!kept.includes(split)) throw unknownSplit(split, kept, dataset.name);
      return splits[split];
    },
    made,
    warnings: [
      ...(dataset.warnings ?? []),
      {
        code: WARNING,
        text: own.length
          ? `nothing judges the ${own.length} queries: the teacher's ranking is their only supervision. Dev and test are ${made} queries generated from the documents, and results on them say little about real queries: judge some queries (qrels/dev.tsv and qrels/test.tsv, lines query-id corpus-id score)`
          : `there are no queries: ${made} were generated from the documents, and results refer to these, not to real queries; add queries of users (queries.jsonl, qrels/test.tsv)`,
      },
    ],
  };
}

function madeOf(documents: TextTable, d: number, each: number, random: Random): string[] {
  const whole = documents.text(d);
  const title = documents.title?.(d) ?? '';
  const body = whole.slice(title.length).trim();
  const sentences = Array.from(new Intl.Segmenter(undefined, { granularity: 'sentence' }).segment(body), (s) =>
    s.segment.replace(/\s+/g, ' ').trim(),
  ).filter((s) => words(s).length >= SPAN[0]);
  const kinds: (() => string | undefined)[] = [
    () => span(sentences, random),
    () => sentence(sentences, random),
    () => (title.trim() ? title.replace(/\s+/g, ' ').trim() : span(sentences, random)),
  ];
  const from = random.integer(kinds.length);
  const made = Array.from({ length: each }, (_, i) => kinds[(from + i) % kinds.length]());
  return [...new Set(made.filter((t): t is string => t !== undefined && t.length > 0))];
}

const words = (text: string): string[] => text.split(/\s+/).filter(Boolean);

/** A sentence, cut to the length of a question. */
function sentence(sentences: readonly string[], random: Random): string | undefined {
  if (!sentences.length) return undefined;
  return words(sentences[random.integer(sentences.length)])
    .slice(0, 2 * SPAN[1])
    .join(' ');
}

/** Neighbouring words of a sentence, without the marks at their ends. */
function span(sentences: readonly string[], random: Random): string | undefined {
  if (!sentences.length) return undefined;
  const all = words(sentences[random.integer(sentences.length)]);
  const n = Math.min(all.length, SPAN[0] + random.integer(SPAN[1] - SPAN[0] + 1));
  const from = random.integer(all.length - n + 1);
  return all
    .slice(from, from + n)
    .join(' ')
    .replace(/^[\p{P}\s]+|[\p{P}\s]+$/gu, '');
}
