/** @file The columns of the vocabulary that a sparse student's step computes: what its queries ask for, and a sample of the rest. */
import { Random } from '../../math/random.ts';
import type { TokenBatch } from '../batches/length-groups.ts';

/** The part of the vocabulary that a step computes. */
export interface Columns {
  /** [C] token ids. */
  ids: Int32Array;
  /** [C] how many tokens of the vocabulary each stands for in a sum over all of them. */
  counts: Float32Array;
  /** How many of them, the first, are tokens of queries: scores need no others. */
  asked: number;
}

/** Share of the sample that is drawn from the documents' own tokens: most of a document's weight is there. */
const OWN = 0.75;

/**
 * Every token of the queries, then tokens of the documents, then others, each part drawn without replacement. A sum over the
 * vocabulary is estimated without bias: a token that was drawn as m of n counts n / m.
 *
 * @param vocabulary V
 * @param wanted C, as many as are computed; all of the vocabulary where it is no larger
 * @returns undefined where the tokens of the queries alone are more than fit
 */
export function drawColumns(
  queries: TokenBatch,
  documents: readonly TokenBatch[],
  { vocabulary, wanted, seed, step }: { vocabulary: number; wanted: number; seed: number; step: number },
): Columns | undefined {
  const size = Math.min(wanted, vocabulary);
  const random = Random.of(seed, `columns ${step}`);
  const asked = tokensOf([queries]);
  // At least one column stands for the tokens that neither queries nor documents have.
  if (asked.size > size || (asked.size === size && size < vocabulary)) return undefined;
  const own = [...tokensOf(documents)].filter((t) => !asked.has(t));
  const free = size - asked.size;
  const others = vocabulary - asked.size - own.length;
  const fromOwn = Math.min(own.length, Math.max(Math.floor(free * OWN), free - others));
  const ids = [...asked, ...random.shuffle(Int32Array.from(own)).subarray(0, fromOwn)];
  const taken = new Set([...asked, ...own]);
  const rest = size - ids.length;
  if (rest === others) for (let t = 0; t < vocabulary; t++) taken.has(t) || ids.push(t);
  else
    while (ids.length < size) {
      const t = random.integer(vocabulary);
      if (taken.has(t)) continue;
      taken.add(t);
      ids.push(t);
    }
  const counts = new Float32Array(size).fill(1);
  if (fromOwn) counts.fill(own.length / fromOwn, asked.size, asked.size + fromOwn);
  if (rest) counts.fill(others / rest, asked.size + fromOwn);
  return { ids: Int32Array.from(ids), counts, asked: asked.size };
}

/** Distinct tokens under the mask, in the order in which they stand. */
function tokensOf(batches: readonly TokenBatch[]): Set<number> {
  const found = new Set<number>();
  for (const { ids, mask } of batches) for (let i = 0; i < ids.length; i++) if (mask[i]) found.add(Number(ids[i]));
  return found;
}
