/** @file Finds the logit of relevance among a classifier's logits, and the formula of a pair's score. */
import { InputError } from '../../common/errors.ts';

/** A label by its name in id2label, or by its place. */
export type LabelChoice = string | number;

export interface ScoreRule {
  /** What the score is, in words. */
  says: string;
  /** An assumption that changes results. */
  note?: string;
  /** The score of a row of logits that begins at `at`. */
  read(data: ArrayLike<number>, at: number): number;
}

type Config = Readonly<Record<string, unknown>>;

/** Names of the label that means relevance, in the spelling of `plain`. */
export const relevantLabels: readonly string[] =
  'entailment entail entails entailed relevant is_relevant highly_relevant positive pos yes true match matching duplicate is_duplicate paraphrase equivalent similar answer'.split(
    ' ',
  );
/** Names of a label that means the opposite, in addition to those that begin with not, non, un, ir or no. */
export const irrelevantLabels: readonly string[] =
  'negative neg no false contradiction neutral mismatch different dissimilar'.split(' ');

const plain = (name: string): string =>
  name
    .trim()
    .toLowerCase()
    .replace(/[\s-]+/g, '_');
const isNegated = (name: string): boolean =>
  /^(not|non|no|un|ir|in|dis)_?(?=entail|relevant|match|duplicate|paraphrase|equivalent|similar|answer|related)/.test(
    name,
  );
const isRelevant = (name: string): boolean => relevantLabels.includes(plain(name));
const isIrrelevant = (name: string): boolean => irrelevantLabels.includes(plain(name)) || isNegated(plain(name));
const isGeneric = (name: string, i: number): boolean => plain(name) === `label_${i}` || name.trim() === String(i);

/** The labels of config.json in order; undefined where it has none. */
export function labelsOf(config: Config): string[] | undefined {
  const { id2label } = config;
  if (!id2label || typeof id2label !== 'object') return undefined;
  const entries = Object.entries(id2label).map(([i, name]) => [Number(i), String(name)] as const);
  const labels: string[] = [];
  for (const [i, name] of entries) {
    if (!Number.isInteger(i) || i < 0 || i >= entries.length) return undefined;
    labels[i] = name;
  }
  return labels.length ? labels : undefined;
}

/** Whether nothing but the usual is said: one logit, or two of which the second is relevance. */
export function isUsual(config: Config, label: LabelChoice | undefined): boolean {
  const labels = labelsOf(config);
  if (label !== undefined) return false;
  if (!labels || labels.length === 1) return true;
  if (labels.length !== 2) return false;
  return labels.every(isGeneric) || (isRelevant(labels[1]) && !isRelevant(labels[0]));
}

/**
 * How a row of logits is read: the logit of relevance less the log of the sum of the exponentials of the others, which is the
 * logit of the softmax's probability. With one logit that is the logit itself, with two their difference.
 *
 * @param columns logits a pair
 * @throws InputError with the labels where none of them, or more than one, says relevance
 */
export function scoreRule(columns: number, config: Config, file: string, choice?: LabelChoice): ScoreRule {
  const known = labelsOf(config);
  const labels = known?.length === columns ? known : undefined;
  const refuse = (why: string): never => {
    const listed = (labels ?? Array.from({ length: columns }, (_, i) => `LABEL_${i}`)).map((l, i) => `${i}: ${l}`);
    throw new InputError({
      code: 'teacher.label',
      subject: `${file} gives ${columns} logits a pair (${listed.slice(0, 12).join(', ')}${listed.length > 12 ? ', …' : ''}), ${why}`,
      expected: 'one label that means that the document is relevant',
      remedy: "name it or give its place as 'teacher.label', or give a cross-encoder trained for relevance",
    });
  };
  const name = (i: number): string => labels?.[i] ?? `LABEL_${i}`;
  let chosen = -1;
  let note: string | undefined;
  if (choice !== undefined) chosen = placeOf(choice, columns, name);
  else if (columns === 1) chosen = 0;
  else {
    const found = Array.from({ length: columns }, (_, i) => i).filter((i) => isRelevant(name(i)));
    const others = Array.from({ length: columns }, (_, i) => i).filter((i) => !isIrrelevant(name(i)));
    if (found.length === 1) [chosen] = found;
    else if (!found.length && columns === 2 && others.length === 1) [chosen] = others;
    else if (columns === 2 && [0, 1].every((i) => isGeneric(name(i), i))) {
      chosen = 1;
      note = `two logits without names: the second is taken for relevance; say otherwise with 'teacher.label'`;
    }
  }
  if (chosen < 0)
    return refuse(choice === undefined ? 'of which none or several mean relevance' : `of which none is '${choice}'`);
  if (known && known.length !== columns && known.length > 1)
    note = `config.json names ${known.length} labels (${known.slice(0, 4).join(', ')}) and the file gives ${columns}`;
  const without = predictionActivation(config);
  const raw = without ? `, without the ${without} that config.json names for predictions` : '';
  if (columns === 1) return { says: `the logit${raw}`, note, read: (data, at) => data[at] };
  const others = Array.from({ length: columns }, (_, i) => i).filter((i) => i !== chosen);
  if (columns === 2)
    return {
      says: `the logit of '${name(chosen)}' minus that of '${name(others[0])}'${raw}`,
      note,
      read: (data, at) => data[at + chosen] - data[at + others[0]],
    };
  return {
    says: `the logit of '${name(chosen)}' minus the log-sum-exp of ${others.map((i) => `'${name(i)}'`).join(', ')}${raw}`,
    note,
    read(data, at) {
      let most = Number.NEGATIVE_INFINITY;
      for (const i of others) most = Math.max(most, data[at + i]);
      let sum = 0;
      for (const i of others) sum += Math.exp(data[at + i] - most);
      return data[at + chosen] - most - Math.log(sum);
    },
  };
}

/**
 * What sentence-transformers' CrossEncoder puts after the logits when it predicts, by config.json; undefined where that is
 * nothing. A teacher's score is what comes before it.
 */
function predictionActivation({ sentence_transformers: own, sbert_ce_default_activation_function: old }: Config) {
  const stated = (own as { activation_fn?: unknown } | undefined)?.activation_fn ?? old;
  const name = typeof stated === 'string' ? stated.split('.').at(-1) : undefined;
  return name === 'Identity' ? undefined : name;
}

/** The place of a label that was asked for; -1 where there is none. */
function placeOf(choice: LabelChoice, columns: number, name: (i: number) => string): number {
  const places = Array.from({ length: columns }, (_, i) => i);
  const byName = places.filter((i) => plain(name(i)) === plain(String(choice)));
  if (byName.length === 1) return byName[0];
  const i = Number(choice);
  return String(choice).trim() !== '' && Number.isInteger(i) && i >= 0 && i < columns ? i : -1;
}
