/** @file Batches of pairs for a cross-encoder: queries with their candidates. */

import { type BlockSize, deviceLength, padBatch } from '../../data/batches.ts';
import type { Tokens } from '../../data/tokenizer.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { Random } from '../../math/random.ts';
import type { PairBatch } from './batches.ts';
import { type Examples, stepExamples } from './dual-encoder-batch.ts';

export interface PairSource {
  /** `scores` are the targets: labels as `labelLogit`, or raw scores of another model. */
  examples: Examples;
  /** Tokens of query i with document j, by position in their tables. */
  pairTokens(query: number, document: number): Tokens;
  padId: number;
}

export interface PairBatchOptions {
  /** Queries per step. */
  queries: number;
  /** Candidates per query: the first one, and others drawn in each step. */
  candidates: number;
  groups: number;
  seed: number;
  /** Batches per step, of equal numbers of queries; 1 by default. */
  parts?: number;
  /** Whether groups are padded to a few shapes: see shapedBatches. */
  onDevice?: boolean;
  /** The model's maximum number of positions. */
  longest?: number;
}

/**
 * A label as the logit of a confident teacher. The softmax over such targets shares 1 among the relevant candidates and their
 * sigmoid is 1 or 0, so that `kl` is listwise softmax cross-entropy and `bce` is binary cross-entropy with labels.
 */
export const labelLogit = (relevant: boolean): number => (relevant ? 20 : -20);

/**
 * A batch by its number (the step's, if a step is one batch). A seed and a number always give the same batch, and the parts of a
 * step together equal the whole.
 */
export function makePairBatch(source: PairSource, number: number, options: PairBatchOptions): PairBatch {
  const { examples } = source;
  const { queries, parts = 1 } = options;
  const step = Math.floor(number / parts);
  const all = stepExamples(examples.queries.length, queries, step, options.seed);
  const random = Random.of(options.seed, `pairs ${step}`);
  const drawnOfAll = all.map((e) => draw(examples.offsets[e], examples.offsets[e + 1], options.candidates, random));
  const from = ((number % parts) * queries) / parts;
  const [chosen, drawn] = [all, drawnOfAll].map((of) => of.slice(from, from + queries / parts)) as [
    number[],
    number[][],
  ];
  const B = chosen.length;
  const N = drawn.reduce((most, d) => Math.max(most, d.length), 0);
  const pairs = drawn.flatMap((candidates, b) =>
    candidates.map((at, n) => ({
      cell: b * N + n,
      target: examples.scores[at],
      tokens: source.pairTokens(examples.queries[chosen[b]], examples.documents[at]),
    })),
  );
  pairs.sort((a, b) => a.tokens.ids.length - b.tokens.ids.length || a.cell - b.cell);
  const float = (...dims: number[]): Tensor<'float32'> => ({
    dtype: 'float32',
    dims,
    data: new Float32Array(dims.reduce((a, b) => a * b, 1)),
  });
  const [targets, mask, weights] = [float(B, N), float(B, N), float(B)];
  const places: Tensor<'int64'> = { dtype: 'int64', dims: [B, N], data: new BigInt64Array(B * N) };
  for (const [b, e] of chosen.entries()) weights.data[b] = examples.weights[e];
  const groups = Math.min(options.groups, pairs.length);
  const bound = (g: number): number => Math.floor((g * pairs.length) / groups);
  let place = 0;
  const padded = Array.from({ length: groups }, (_, g) => {
    const own = pairs.slice(bound(g), bound(g + 1));
    for (const [i, { cell, target }] of own.entries()) {
      places.data[cell] = BigInt(place + i);
      targets.data[cell] = target;
      mask.data[cell] = 1;
    }
    const batch = padBatch(
      own.map((p) => p.tokens),
      source.padId,
      blockOf(own.length, own[own.length - 1].tokens.ids.length, options),
    );
    place += batch.rows;
    return batch;
  });
  return { exampleIds: chosen, pairs: padded, places, targets, mask, weights };
}

/** The block of a group: unchanged, or padded to one of a few shapes. */
const blockOf = (
  rows: number,
  length: number,
  { onDevice, longest, queries, parts = 1, candidates, groups }: PairBatchOptions,
): BlockSize =>
  onDevice
    ? {
        rows: Math.max(rows, Math.ceil((queries * candidates) / parts / groups)),
        length: deviceLength(length, longest),
      }
    : { rows, length: Math.max(1, length) };

/** The first position of a range, and others drawn without replacement. */
function draw(from: number, to: number, count: number, random: Random): number[] {
  const rest = Array.from({ length: Math.max(0, to - from - 1) }, (_, i) => from + 1 + i);
  const wanted = Math.min(count - 1, rest.length);
  for (let i = 0; i < wanted; i++) {
    const j = i + random.integer(rest.length - i);
    [rest[i], rest[j]] = [rest[j], rest[i]];
  }
  return [from, ...rest.slice(0, wanted)];
}
