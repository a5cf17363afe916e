/** @file Queries made of documents, with the document that each was made of as its judgement. */
import { Random } from '../../math/random.ts';
import type { Dataset, TextTable } from '../dataset.ts';
import { TextTableBuilder } from '../dataset.ts';

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
/** Words of a span, from and to: what people type into a search box. */
const SPAN = [3, 9] as const;

/**
 * A data set of documents alone gets queries: titles, sentences and spans of words, in turn. Those of some documents are held
 * out as dev and test, and training never sees them. They are made, not asked: figures on them say that something was learned,
 * not how real queries fare.
 */
export function withMadeQueries(dataset: Dataset, options: MadeOptions = {}): Dataset {
  const { seed = 0, each = 3, most = 200_000, heldOut = 0.1 } = options;
  const { documents } = dataset;
  const random = Random.of(seed, 'made queries');
  const order = random.shuffle(Int32Array.from({ length: documents.length }, (_, i) => i));
  const out = Math.min(MOST_HELD_OUT, Math.floor(documents.length * heldOut));
  const queries = new TextTableBuilder();
  const splits = { dev: new Map(), test: new Map(), train: new Map() } as Record<
    string,
    Map<string, Map<string, number>>
  >;
  const asked = new Map<string, string>();
  for (const [at, d] of order.entries()) {
    const split = at < out ? 'dev' : at < 2 * out ? 'test' : 'train';
    for (const text of madeOf(documents, d, split === 'train' ? each : 1, random)) {
      if (queries.length >= most) break;
      const known = asked.get(text);
      // Two documents may give the same text. Held out ones stay out of training.
      if (known !== undefined) {
        splits[split].get(known)?.set(documents.ids[d], 1);
        continue;
      }
      const id = `made-${queries.length}`;
      asked.set(text, id);
      queries.add(id, text);
      splits[split].set(id, new Map([[documents.ids[d], 1]]));
    }
  }
  const table = queries.build();
  return {
    ...dataset,
    queries: table,
    splits: Object.keys(splits).filter((s) => splits[s].size),
    qrels: (split) => splits[split] ?? dataset.qrels(split),
    notes: [
      ...(dataset.notes ?? []),
      `${table.length} queries were made of the documents; dev and test figures are of made queries, not of asked ones`,
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
