/** @file A set of pairs of documents of which one answers a query: the other is a changed copy, or one with nearly the same name. */
import type { Dataset } from '../../data/dataset.ts';
import { Random } from '../../math/random.ts';
import { chosen, documentFrequencies, nameDistance, negated, replaced, swapped } from './perturb.ts';

export const perturbations = [
  'irrelevant',
  'empty',
  'negation',
  'swapped-attribute',
  'swapped-name',
  'near-name',
] as const;
/** How the other document came about. */
export type Perturbation = (typeof perturbations)[number];

/** A scorer is right where `document` is above `other`. */
export interface RobustnessItem {
  kind: Perturbation;
  query: string;
  /** Relevant to the query. */
  document: string;
  other: string;
}

/** Documents near to a relevant one, by position, nearest first. */
export type Near = (query: number, document: number) => readonly number[];

/**
 * @param near documents that are near a relevant one and not relevant themselves: what attributes and names are taken from
 * @param count judged queries that items are made of
 */
export function robustnessSet(
  dataset: Dataset,
  split: string,
  near: Near,
  { count = 200, seed = 0 }: { count?: number; seed?: number } = {},
): RobustnessItem[] {
  const { documents, queries } = dataset;
  const frequency = documentFrequencies(documents);
  const judged = [...dataset.qrels(split)].flatMap(([id, grades]) => {
    const query = queries.indexOf(id);
    const best = [...grades].find(([, g]) => g > 0)?.[0];
    const document = best === undefined ? undefined : documents.indexOf(best);
    return query === undefined || document === undefined ? [] : [{ query, document, relevant: grades }];
  });
  const order = Random.of(seed, 'robustness').shuffle(Int32Array.from(judged.keys())).subarray(0, count);
  const items: RobustnessItem[] = [];
  for (const at of order) {
    const { query, document, relevant } = judged[at];
    const [asked, text] = [queries.text(query), documents.text(document)];
    const add = (kind: Perturbation, other: string | undefined): void => {
      if (other !== undefined && other !== text) items.push({ kind, query: asked, document: text, other });
    };
    const others = near(query, document).filter((d) => d !== document && !(relevant.get(documents.ids[d]) ?? 0));
    const neighbour = others.length ? documents.text(others[0]) : undefined;
    const anywhere = Random.of(seed, `irrelevant ${query}`).integer(documents.length);
    add('irrelevant', anywhere === document ? undefined : documents.text(anywhere));
    add('empty', '');
    add('negation', negated(text));
    add(
      'swapped-attribute',
      neighbour === undefined ? undefined : swapped({ query: asked, text, other: neighbour }, frequency),
    );
    const title = documents.title?.(document) ?? '';
    const otherTitle = others.length ? (documents.title?.(others[0]) ?? '') : '';
    // The content of a neighbour under the name of the relevant document.
    add(
      'swapped-name',
      title && otherTitle && neighbour !== undefined ? replaced(neighbour, otherTitle.toLowerCase(), title) : undefined,
    );
    add('near-name', nearName(dataset, document, relevant, seed));
  }
  return items;
}

/** A document whose title differs by an edit or two from that of this one. */
function nearName(
  dataset: Dataset,
  document: number,
  relevant: ReadonlyMap<string, number>,
  seed: number,
): string | undefined {
  const { documents } = dataset;
  const title = documents.title?.(document) ?? '';
  if (title.length < 4) return undefined;
  const most = title.length < 8 ? 1 : 2;
  const found: number[] = [];
  for (let d = 0; d < documents.length; d++) {
    const other = documents.title?.(d) ?? '';
    if (d === document || !other || (relevant.get(documents.ids[d]) ?? 0) > 0) continue;
    if (nameDistance(title, other, most) <= most) found.push(d);
  }
  const one = chosen(found, seed, `near name ${document}`);
  return one === undefined ? undefined : documents.text(one);
}

/** Scores pairs of texts, as a teacher does. */
export type PairScorer = (pairs: readonly { query: string; document: string }[]) => Promise<ArrayLike<number>>;

/** The share of each kind in which the relevant document is above the other; equal scores count half. */
export async function shareRight(
  items: readonly RobustnessItem[],
  score: PairScorer,
): Promise<Partial<Record<Perturbation, { right: number; of: number }>>> {
  const pairs = items.flatMap(({ query, document, other }) => [
    { query, document },
    { query, document: other },
  ]);
  const scores = await score(pairs);
  const found: Partial<Record<Perturbation, { right: number; of: number }>> = {};
  for (const [i, { kind }] of items.entries()) {
    const [own, other] = [scores[2 * i], scores[2 * i + 1]];
    const { right, of } = found[kind] ?? { right: 0, of: 0 };
    found[kind] = { right: right + (own > other ? 1 : own === other ? 0.5 : 0), of: of + 1 };
  }
  return found;
}
