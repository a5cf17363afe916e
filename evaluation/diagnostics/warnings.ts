/** @file Warnings about probable problems that do not fail a run, each with its figures. */

import { createHash } from 'node:crypto';
import { type Dataset, judgedQueries } from '../../data/dataset.ts';
import type { CandidateLists } from '../../data/lists.ts';
import { rowOf } from '../../math/ragged.ts';
import type { Encoder } from '../../models/encoder.ts';
import { partsOf } from '../../retrieval/analyzer.ts';
import { anisotropy, effectiveRank } from './geometry.ts';

export type Warn = (code: string, text: string) => void;

/** With fewer labelled queries than this, the distribution of labels is not judged. */
const FEWEST_LABELS = 8;
/** Scores of a query's candidates closer than this, relative to their size, count as equal. */
const SAME_SCORE = 1e-5;
/** A student with a lower effective rank than this has collapsed. */
const LEAST_RANK = 2;
/** Fewer embeddings than this span few directions in any case. */
const FEWEST_TEXTS = 8;
/** A loss below this fraction of the total is negligible. */
const SMALL_LOSS = 0.01;
/** Number of texts whose embeddings are examined. */
const SAMPLE = 256;

const percent = (part: number, whole: number): string => `${((100 * part) / whole).toFixed(part < whole ? 1 : 0)} %`;

/** The hash of a text, the same for texts that differ only in case or spacing. A long text is read in parts. */
function plain(text: string): string {
  const hash = createHash('sha256');
  let begun = false;
  // A space that may be the text's end.
  let space = '';
  for (const part of partsOf(text)) {
    const own: string = `${space}${part.normalize('NFKC').toLowerCase()}`.replace(/\s+/g, ' ');
    const kept: string = begun ? own : own.trimStart();
    space = kept.endsWith(' ') ? ' ' : '';
    begun ||= kept !== '';
    hash.update(space ? kept.slice(0, -1) : kept);
  }
  return hash.digest('hex');
}

/**
 * Warns about uninformative labels, about splits that are trained on and measured on, and about leaks from training into the test split.
 * @param learned positions of the queries that are trained on
 */
export function warnOfData(
  { train, dev = null, test }: { train: string; dev?: string | null; test: string },
  dataset: Dataset,
  learned: readonly number[],
  warn: Warn,
): void {
  for (const { code, text } of dataset.warnings ?? []) warn(code, text);
  if (!dataset.splits.includes(train)) return;
  warnOfLabels(dataset, train, warn);
  if (train === test)
    warn(
      'data.trained-test',
      `the split '${test}' is both trained on and tested on: its figures are too good, and say nothing about other queries; judge others, and name their split in data.splits.test`,
    );
  if (train === dev)
    warn(
      'data.trained-dev',
      `the split '${dev}' is both trained on and used as dev: what is chosen on it is chosen by how well it was learned; name another one in data.splits.dev, or null`,
    );
  if (train === test || !dataset.splits.includes(test)) return;
  warnOfSharedQueries(test, dataset, learned, warn);
  warnOfTwins(dataset, train, test, warn);
}

function warnOfLabels(dataset: Dataset, split: string, warn: Warn): void {
  const times = new Map<string, number>();
  let labelled = 0;
  for (const grades of dataset.qrels(split).values()) {
    const relevant = [...grades].filter(([, g]) => g > 0);
    labelled += Number(relevant.length > 0);
    for (const [id] of relevant) times.set(id, (times.get(id) ?? 0) + 1);
  }
  let [id, most] = ['', 0];
  for (const [own, n] of times) if (n > most) [id, most] = [own, n];
  if (labelled >= FEWEST_LABELS && 2 * most > labelled)
    warn(
      'data.one-document',
      `${most} of ${labelled} labelled queries of the split '${split}' (${percent(most, labelled)}) have the same relevant document, '${id}'`,
    );
}

function warnOfSharedQueries(test: string, dataset: Dataset, positions: readonly number[], warn: Warn): void {
  const { queries } = dataset;
  const tested = judgedQueries(dataset, test);
  const wanted = new Set(tested.map((q) => plain(queries.text(q))));
  const learned = new Map<string, number>();
  for (const q of positions) {
    const text = plain(queries.text(q));
    if (wanted.has(text)) learned.set(text, q);
  }
  const shared = tested.filter((q) => learned.has(plain(queries.text(q))));
  if (!shared.length) return;
  const [first] = shared;
  const twin = learned.get(plain(queries.text(first))) ?? first;
  warn(
    'data.shared-queries',
    `${shared.length} of ${tested.length} queries of the split '${test}' (${percent(shared.length, tested.length)}) are trained on too, by their text: e.g. '${queries.ids[first]}'${twin === first ? '' : ` is '${queries.ids[twin]}'`}; figures of this split are too good`,
  );
}

/** Warns about documents relevant in the test split that occur in the corpus twice. */
function warnOfTwins(dataset: Dataset, train: string, test: string, warn: Warn): void {
  const { documents } = dataset;
  const relevant = (split: string): Set<string> => {
    const found = new Set<string>();
    for (const grades of dataset.qrels(split).values()) for (const [id, grade] of grades) if (grade > 0) found.add(id);
    return found;
  };
  const tested = relevant(test);
  const texts = new Map<string, string>();
  for (const id of tested) {
    const at = documents.indexOf(id);
    if (at !== undefined) texts.set(plain(documents.text(at)), id);
  }
  const twins = new Map<string, string[]>();
  for (let i = 0; i < documents.length; i++) {
    const id = documents.ids[i];
    const own = texts.get(plain(documents.text(i)));
    if (own !== undefined && own !== id) twins.set(own, [...(twins.get(own) ?? []), id]);
  }
  if (!twins.size) return;
  const learned = relevant(train);
  const [[id, [twin]]] = twins;
  const leaked = [...twins.values()].filter((ids) => ids.some((d) => learned.has(d))).length;
  warn(
    'data.twin-documents',
    `${twins.size} of ${tested.size} documents that are relevant in the split '${test}' (${percent(twins.size, tested.size)}) occur in the corpus under another id too, e.g. '${id}' and '${twin}', and count as wrong there; ${leaked} of them are relevant in '${train}' under the other id`,
  );
}

/** Warns about a teacher whose scores do not distinguish a query's candidates. */
export function warnOfScores({ offsets, scores }: CandidateLists, warn: Warn): void {
  let [lists, flat, least, most] = [0, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let i = 0; i + 1 < offsets.length; i++) {
    const own = rowOf(scores, offsets, i).filter(Number.isFinite);
    if (own.length < 2) continue;
    const [low, high] = own.reduce(([a, b], s) => [Math.min(a, s), Math.max(b, s)], [own[0], own[0]]);
    lists++;
    flat += Number(high - low <= SAME_SCORE * Math.max(1, Math.abs(low), Math.abs(high)));
    [least, most] = [Math.min(least, low), Math.max(most, high)];
  }
  if (lists && 2 * flat > lists)
    warn(
      'teacher.constant',
      `the teacher gives all candidates the same score for ${flat} of ${lists} queries (${percent(flat, lists)}); its scores are between ${least.toPrecision(4)} and ${most.toPrecision(4)}`,
    );
}

/** @param frozen whether the student encodes queries alone */
export async function warnOfCollapse(
  encoder: Encoder,
  {
    limits,
    dataset,
    frozen,
  }: {
    limits: { queryTokens: number; documentTokens: number };
    dataset: Dataset;
    frozen: boolean;
  },
  warn: Warn,
): Promise<void> {
  const { queryTokens, documentTokens } = limits;
  const [texts, maxLength] = frozen ? [dataset.queries, queryTokens] : [dataset.documents, documentTokens];
  const role = frozen ? 'query' : 'document';
  // Evenly over the table; a duplicate text would look like collapse.
  const every = Math.max(1, Math.floor(texts.length / SAMPLE));
  const chosen = [...new Set(Array.from({ length: Math.min(SAMPLE, texts.length) }, (_, i) => texts.text(i * every)))];
  const data = await encoder.encode(chosen, { maxLength, role });
  const found = collapse({ dimensions: encoder.dimensions, data });
  if (found)
    warn(
      'student.collapsed',
      `the student has collapsed: ${found} over ${chosen.length} ${frozen ? 'queries' : 'documents'}`,
    );
}

/** Evidence that embeddings have collapsed; undefined if they have not, or are too few to judge. */
export function collapse(rows: { dimensions: number; data: Float32Array }): string | undefined {
  if (rows.data.length < FEWEST_TEXTS * rows.dimensions) return undefined;
  const rank = effectiveRank(rows);
  return rank >= LEAST_RANK || rows.dimensions <= LEAST_RANK
    ? undefined
    : `its embeddings use ${rank.toFixed(2)} of ${rows.dimensions} directions (effective rank), mean cosine ${anisotropy(rows).toFixed(3)}`;
}

/**
 * Warns about losses that are negligible compared with the others: those with a factor T^2 at a small temperature
 * T, or a mean over all pairs of a step.
 *
 * @param log of the first steps, with the value of each loss before its weight
 */
export function warnOfSmallLosses(
  losses: readonly { kind: string; weight: number }[],
  log: readonly { loss: number; terms: readonly number[] }[],
  warn: Warn,
): void {
  const sound = log.filter((e) => Number.isFinite(e.loss));
  const total = sound.reduce((sum, e) => sum + Math.abs(e.loss), 0);
  for (const [i, { kind, weight }] of losses.entries()) {
    const own = sound.reduce((sum, e) => sum + Math.abs(weight * e.terms[i]), 0);
    if (losses.length > 1 && own > 0 && own < SMALL_LOSS * total)
      warn(
        `train.small-loss-${i}`,
        `the loss '${kind}' with weight ${weight} is ${((100 * own) / total).toPrecision(1)} % of the total over the first ${log.length} steps and has almost no effect; a weight of about ${Number(((weight * total) / (losses.length * own)).toPrecision(1))} would make it as large as the others`,
      );
  }
}
