/** @file Training examples of a dual-encoder (queries with candidates), and the batches drawn from them. */

import { padBatch } from '../../data/batches.ts';
import type { Tokens } from '../../data/tokenizer.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { positionsOf, rowOf } from '../../math/ragged.ts';
import { drawFrom, Random } from '../../math/random.ts';
import type { StepBatch } from './batches.ts';

/** One query to learn from. */
export interface Examples {
  /** [n] positions in the query table. */
  queries: Int32Array;
  /** Candidates of example i: documents[offsets[i] .. offsets[i + 1]], labelled positives first where there are any. */
  offsets: Int32Array;
  documents: Int32Array;
  /** The teacher's raw scores of the candidates; NaN where a candidate was not scored. */
  scores: Float32Array;
  /** [n] 1 where the first candidate is a labelled positive. */
  labelled: Uint8Array;
  /** [n] a factor for each query's loss. */
  weights: Float32Array;
  /** [n] estimated probability that the teacher's label of a query is right, where available. */
  reliability?: Float32Array;
  /**
   * The grade of a document for a query, both as positions; 0 where it is not known to be relevant. Each step draws one of
   * several positives in proportion to its grade. Without it the first candidate is the positive.
   */
  grade?(query: number, document: number): number;
  /** Documents known to be relevant to a query, or with the same text as one: never its negatives. */
  relevant(query: number): ReadonlySet<number>;
}

/** Teacher embeddings by position in their table, for losses that match them. */
export interface EmbeddingTable {
  dimensions: number;
  data: Float32Array;
}

export interface BatchSource {
  examples: Examples;
  /** Tokens by position in the tables. */
  queryTokens(i: number): Tokens;
  documentTokens(i: number): Tokens;
  padId: number;
  teacherQueries?: EmbeddingTable;
  teacherDocuments?: EmbeddingTable;
  /** Whether documents are given as embeddings and not encoded. */
  frozenDocuments?: boolean;
  /** The examples of a batch by its number; a new random order of all in each epoch by default. */
  order?(number: number): readonly number[];
  /** Texts that have only a teacher's embedding. */
  extra?: EmbeddedTexts;
  /** Texts whose embeddings stay near given ones. */
  kept?: EmbeddedTexts;
}

/** Texts with an embedding each. */
export interface EmbeddedTexts {
  tokens(i: number): Tokens;
  embeddings: EmbeddingTable;
  count: number;
}

export interface BatchOptions {
  /** Queries per step. */
  queries: number;
  /** Candidates per query: the first one, and others drawn in each step. */
  candidates: number;
  documentGroups: number;
  extraTexts?: number;
  keptTexts?: number;
  /** Frozen documents drawn at random in each step in addition to the candidates, for losses over all documents of the step. */
  sampledDocuments?: number;
  /** Gumbel noise draws per query, for losses that sample the teacher's orders. */
  draws?: number;
  seed: number;
}

/** The examples of each step: every epoch is a new order of all of them. */
export function stepExamples(
  n: number,
  perStep: number,
  step: number,
  seed: number,
  ordered?: (epoch: number) => Int32Array,
): number[] {
  const stepsAnEpoch = Math.max(1, Math.floor(n / perStep));
  const epoch = Math.floor(step / stepsAnEpoch);
  const order = epochOrder(n, epoch, seed, ordered);
  const from = (step % stepsAnEpoch) * perStep;
  return Array.from(order.subarray(from, Math.min(n, from + perStep)));
}

let lastOrder: { key: string; by?: (epoch: number) => Int32Array; order: Int32Array } | undefined;

function epochOrder(n: number, epoch: number, seed: number, ordered?: (epoch: number) => Int32Array): Int32Array {
  const key = `${n} ${epoch} ${seed}`;
  if (lastOrder?.key !== key || lastOrder.by !== ordered)
    lastOrder = {
      key,
      by: ordered,
      order: ordered?.(epoch) ?? Random.of(seed, `epoch ${epoch}`).shuffle(Int32Array.from({ length: n }, (_, i) => i)),
    };
  return lastOrder.order;
}

/**
 * The batch of a step; a seed and a step always give the same batch, independent of earlier calls. `drawn` are each query's
 * candidates as positions in `examples.documents`, `documentIds` the M documents of the step.
 */
export function makeBatch(
  source: BatchSource,
  step: number,
  options: BatchOptions,
): StepBatch & { exampleIds: readonly number[]; drawn: number[][]; documentIds: readonly number[] } {
  const { examples } = source;
  const chosen = source.order?.(step) ?? stepExamples(examples.queries.length, options.queries, step, options.seed);
  const random = Random.of(options.seed, `candidates ${step}`);
  const drawn = chosen.map((e) => drawCandidates(examples, e, options.candidates, random));
  const N = drawn.reduce((most, d) => Math.max(most, d.length), 0);
  const B = chosen.length;

  // Each document once, grouped by length.
  const unique = [...new Set(drawn.flat().map((at) => examples.documents[at]))];
  if (!source.frozenDocuments)
    unique.sort((a, b) => source.documentTokens(a).ids.length - source.documentTokens(b).ids.length || a - b);
  const candidateCount = unique.length;
  if (source.frozenDocuments && source.teacherDocuments && options.sampledDocuments) {
    const { data, dimensions } = source.teacherDocuments;
    const others = Random.of(options.seed, `documents ${step}`);
    drawOthers(unique, data.length / dimensions, options.sampledDocuments, others);
  }
  const place = new Map(unique.map((d, i) => [d, i]));
  const M = unique.length;

  const float = (...dims: number[]): Tensor<'float32'> => ({
    dtype: 'float32',
    dims,
    data: new Float32Array(dims.reduce((a, b) => a * b, 1)),
  });
  const candidates: Tensor<'int64'> = { dtype: 'int64', dims: [B, N], data: new BigInt64Array(B * N) };
  const [teacher, mask, positives, inBatch, owner] = [float(B, N), float(B, N), float(B, M), float(B, M), float(B, M)];
  const weights = float(B);
  const owned = new Set<number>();
  inBatch.data.fill(1);
  for (const [b, e] of chosen.entries()) {
    weights.data[b] = examples.weights[e];
    const relevant = examples.relevant(examples.queries[e]);
    for (const d of relevant) {
      const m = place.get(d);
      if (m !== undefined) inBatch.data[b * M + m] = 0;
    }
    for (const [j, at] of drawn[b].entries()) {
      const m = place.get(examples.documents[at]) as number;
      candidates.data[b * N + j] = BigInt(m);
      teacher.data[b * N + j] = examples.scores[at];
      mask.data[b * N + j] = 1;
      if (!owned.has(m)) {
        owned.add(m);
        owner.data[b * M + m] = 1;
      }
      if (j === 0 && examples.labelled[e]) {
        positives.data[b * M + m] = 1;
        inBatch.data[b * M + m] = 1;
      }
    }
  }
  // A document that no query compares by itself is owned too: owners are one a document.
  for (let m = candidateCount; m < M; m++) owner.data[(m % B) * M + m] = 1;
  const gather = (table: EmbeddingTable, rows: readonly number[]): Tensor => {
    const out = float(rows.length, table.dimensions);
    for (const [i, r] of rows.entries())
      out.data.set(table.data.subarray(r * table.dimensions, (r + 1) * table.dimensions), i * table.dimensions);
    return out;
  };
  const queryRows = chosen.map((e) => examples.queries[e]);
  const groups = source.frozenDocuments ? [] : split(unique, options.documentGroups);
  return {
    exampleIds: chosen,
    drawn,
    documentIds: unique,
    padId: source.padId,
    queries: padBatch(
      queryRows.map((q) => source.queryTokens(q)),
      source.padId,
    ),
    documents: groups.map((g) =>
      padBatch(
        g.map((d) => source.documentTokens(d)),
        source.padId,
      ),
    ),
    ...(source.frozenDocuments && source.teacherDocuments
      ? { documentEmbeddings: gather(source.teacherDocuments, unique) }
      : {}),
    candidates,
    arrays: {
      teacher,
      mask,
      positives,
      inBatch,
      owner,
      ...(examples.reliability && { reliability: broadcast(examples.reliability, chosen, float(B, N)) }),
      ...(options.draws && { gumbel: gumbel(float(B, options.draws, N), options.seed, step) }),
      ...(source.teacherQueries && { teacherQueries: gather(source.teacherQueries, queryRows) }),
      ...(source.teacherDocuments && { teacherDocuments: gather(source.teacherDocuments, unique) }),
    },
    weights,
    ...(source.extra && options.extraTexts
      ? { extra: drawTexts(source, source.extra, options.extraTexts, step, options.seed + 1, gather) }
      : {}),
    ...(source.kept && options.keptTexts
      ? { kept: drawTexts(source, source.kept, options.keptTexts, step, options.seed + 2, gather) }
      : {}),
  };
}

/** Appends up to `count` further documents of `total` to those in `into`, drawn without replacement. */
function drawOthers(into: number[], total: number, count: number, random: Random): void {
  const taken = new Set(into);
  const wanted = Math.min(count, total - taken.size);
  if (2 * (wanted + taken.size) > total) {
    const rest = Int32Array.from({ length: total }, (_, d) => d).filter((d) => !taken.has(d));
    for (const d of random.shuffle(rest).subarray(0, wanted)) into.push(d);
    return;
  }
  for (let drawn = 0; drawn < wanted; ) {
    const d = random.integer(total);
    if (taken.has(d)) continue;
    taken.add(d);
    into.push(d);
    drawn++;
  }
}

/** Repeats a query's value for each of its candidates. */
function broadcast(values: Float32Array, examples: readonly number[], into: Tensor<'float32'>): Tensor {
  const N = into.dims[1];
  for (const [b, e] of examples.entries()) into.data.fill(values[e], b * N, (b + 1) * N);
  return into;
}

/** -log(-log U), new in each step. */
function gumbel(into: Tensor<'float32'>, seed: number, step: number): Tensor {
  const random = Random.of(seed, `gumbel ${step}`);
  for (let i = 0; i < into.data.length; i++) into.data[i] = -Math.log(-Math.log(random.uniform() || Number.MIN_VALUE));
  return into;
}

function drawTexts(
  source: BatchSource,
  from: EmbeddedTexts,
  count: number,
  step: number,
  seed: number,
  gather: (table: EmbeddingTable, rows: readonly number[]) => Tensor,
): NonNullable<StepBatch['extra']> {
  const rows = stepExamples(from.count, Math.min(count, from.count), step, seed);
  return {
    texts: padBatch(
      rows.map((i) => from.tokens(i)),
      source.padId,
    ),
    embeddings: gather(from.embeddings, rows),
  };
}

/** A positive (drawn by grade if there are several), and others drawn without replacement. */
function drawCandidates(examples: Examples, e: number, count: number, random: Random): number[] {
  const all = positionsOf(examples.offsets, e);
  const grades = gradesOf(examples, e);
  const known = grades.reduce((n, g) => n + Number(g > 0), 0);
  const drawn = known > 1 && examples.labelled[e] ? drawFrom((i) => grades[i], grades.length, random) : 0;
  const first = all[drawn];
  // Other positives are only used with a teacher score: without one they would just take a negative's place.
  const rest = all.filter((at, i) => i !== drawn && !(known > 1 && grades[i] > 0 && Number.isNaN(examples.scores[at])));
  if (rest.length < count) return [first, ...rest];
  for (let i = 0; i < count - 1; i++) {
    const j = i + random.integer(rest.length - i);
    [rest[i], rest[j]] = [rest[j], rest[i]];
  }
  return [first, ...rest.slice(0, count - 1)];
}

/** Grades of an example's candidates. */
function gradesOf({ queries, offsets, documents, grade }: Examples, e: number): number[] {
  if (!grade) return [];
  return Array.from(rowOf(documents, offsets, e), (d) => grade(queries[e], d));
}

/** Consecutive parts of about equal size, each with at least one element (the last element is repeated if there are too few). */
function split<T>(items: readonly T[], parts: number): T[][] {
  return Array.from({ length: parts }, (_, i) => {
    const part = items.slice(Math.floor((i * items.length) / parts), Math.floor(((i + 1) * items.length) / parts));
    return part;
  }).filter((p) => p.length);
}
