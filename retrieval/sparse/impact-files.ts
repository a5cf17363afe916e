/** @file Impacts in the words of search engines: whole numbers a token, as lines of JSON and of tabs. */
import { FaultError } from '../../common/errors.ts';
import { allFinite } from '../../math/finite.ts';
import type { SparseVector } from './impact-index.ts';

/** A weight as a whole number. Weights of documents are below about 4: a factor of 100 keeps two digits, as SPLADE's files do. */
export const DOCUMENT_FACTOR = 100;
export const QUERY_FACTOR = 10;

/** Token ids with their whole numbers, those that are rounded to 0 left out. @throws FaultError for a weight that is not finite */
export function wholeWeights({ ids, weights }: SparseVector, factor: number): [id: number, impact: number][] {
  if (!allFinite(weights))
    throw new FaultError({
      code: 'sparse.not-finite',
      subject: 'the weight of a token is not finite',
      remedy: 'use another file of the model, or leave the text out',
    });
  const found: [number, number][] = [];
  for (let i = 0; i < ids.length; i++) {
    const impact = Math.round(weights[i] * factor);
    if (impact > 0) found.push([ids[i], impact]);
  }
  return found;
}

/** As `wholeWeights`, by token. */
export function wholeImpacts(
  own: SparseVector,
  tokenOf: (id: number) => string,
  factor: number,
): Record<string, number> {
  // A null prototype: a token may be called constructor.
  const vector: Record<string, number> = Object.create(null);
  for (const [id, impact] of wholeWeights(own, factor)) vector[tokenOf(id)] = impact;
  return vector;
}

/** A line of Anserini's JsonVectorCollection. */
export const documentLine = (id: string, contents: string, vector: Record<string, number>): string =>
  `${JSON.stringify({ id, contents, vector })}\n`;

/** A line of topics for a search of impacts: each token as often as its whole number says. */
export const queryLine = (id: string, vector: Record<string, number>): string =>
  `${id}\t${Object.entries(vector)
    .flatMap(([token, n]) => Array<string>(n).fill(token))
    .join(' ')}\n`;
