/** @file A teacher in int8: its products use the CPU's integer units, and a sample of its scores or vectors is compared with float32. */

import { InputError } from '../common/errors.ts';
import { hashParts } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import type { Texts } from '../data/dataset.ts';
import type { Graph } from '../engine/graph/ir.ts';
import type { ModelSource } from '../engine/io/model-file.ts';
import { encodeGraph, loadGraph, parseGraph } from '../engine/io/onnx-file.ts';
import { halfToFloat32 } from '../engine/passes/normalize.ts';
import { liftOpset } from '../engine/passes/opset.ts';
import { spearman } from '../math/rank-correlation.ts';
import { productsToInt8 } from '../students/export/int8.ts';
import { splitOutliers } from '../students/export/outliers.ts';
import { tidy } from '../students/export/simplify.ts';
import type { Embeddings, Pair, Teacher } from './teacher.ts';

/** Products with a scale a column are written in the form of this opset and later. */
const OLDEST_OPSET = 13;
/** Pairs or texts that are compared. */
const SAMPLE = 128;
/** Below this rank correlation the int8 form is refused. */
const LEAST_CORRELATION = 0.95;
/** Below this mean cosine of a text's two vectors the int8 form is refused: an index may hold vectors of both. */
const LEAST_COSINE = 0.98;

/**
 * The file with its products in int8 (a scale an output channel, activations as they come, channels of outliers in float), its
 * tables and everything else as they are.
 * @throws InputError where the file cannot be read as a graph, or holds no product with stored weights
 */
export async function int8Bytes(source: ModelSource, file: string, positions?: number): Promise<Uint8Array> {
  const graph = 'path' in source ? await loadGraph(source.path) : parseGraph(source.bytes, file);
  await toInt8(graph, file, positions);
  return encodeGraph(graph);
}

/**
 * Changes a graph as `int8Bytes` does.
 * @throws InputError where it holds no product with stored weights
 */
export async function toInt8(graph: Graph, file: string, positions?: number): Promise<void> {
  halfToFloat32(graph);
  tidy(graph, file);
  liftOpset(graph, OLDEST_OPSET);
  await splitOutliers(graph, positions);
  if (!productsToInt8(graph))
    throw new InputError({
      code: 'teacher.int8',
      subject: `${file} has no product with stored float32 weights to write as int8`,
      remedy: "remove 'dtype: int8'",
    });
}

/** The key of a teacher's int8 form: its scores are others. */
export const int8Key = (key: string): string => hashParts(key, 'int8');

/** What a comparison found, and whether it is near enough. */
interface Comparison {
  near: boolean;
  figures: string;
}

/**
 * The int8 teacher, once a sample of the first pairs or texts that it is asked for has been compared with float32.
 * @param whole the float32 teacher, which is closed after the comparison
 * @throws InputError from its functions, where the two rank the sample differently or their vectors are far apart
 */
export function checkedInt8<T extends Teacher>(whole: T, small: T): T {
  let open: T | undefined = whole;
  const close = async (): Promise<void> => {
    const teacher = open;
    open = undefined;
    await teacher?.dispose();
  };
  /** @param compare takes a sample of positions */
  const check = async (
    n: number,
    unit: 'pairs' | 'texts',
    compare: (exact: T, sample: readonly number[]) => Promise<Comparison>,
    { onProgress }: RunControl,
  ): Promise<void> => {
    // Two vectors have one product, which has no order.
    if (!open || n < (unit === 'pairs' ? 2 : 3)) return;
    const step = Math.max(1, Math.floor(n / SAMPLE));
    const sample = Array.from({ length: Math.min(SAMPLE, Math.ceil(n / step)) }, (_, i) => i * step);
    const { near, figures } = await compare(open, sample);
    await close();
    if (!near)
      throw new InputError({
        code: 'teacher.int8',
        subject: `${small.name} ${unit === 'pairs' ? 'ranks' : 'embeds'} ${sample.length} ${unit} differently in int8 (${figures})`,
        expected: `a rank correlation of ${LEAST_CORRELATION} or more with float32${unit === 'pairs' ? '' : ` and a mean cosine of ${LEAST_COSINE} or more`}`,
        remedy: "remove 'dtype: int8'",
      });
    const note = `${small.name} in int8 compared with float32 on ${sample.length} ${unit}: ${figures}`;
    onProgress?.({ stage: unit === 'pairs' ? 'score' : 'embed', done: 0, total: n, unit, note });
  };
  const { embed, embedTokens } = small;
  return {
    ...small,
    key: int8Key(small.key),
    async score(pairs: readonly Pair[], watch: RunControl = {}) {
      const quiet = { signal: watch.signal };
      const compare = async (exact: T, sample: readonly number[]): Promise<Comparison> => {
        const asked = sample.map((i) => pairs[i]);
        return compareScores(await exact.score(asked, quiet), await small.score(asked, quiet));
      };
      await check(pairs.length, 'pairs', compare, watch);
      return small.score(pairs, watch);
    },
    ...(embed && {
      async embed(texts: readonly string[] | Texts, kind: 'query' | 'document', watch: RunControl = {}) {
        const quiet = { signal: watch.signal };
        const compare = async (exact: T, sample: readonly number[]): Promise<Comparison> => {
          const asked = sample.map((i) => (Array.isArray(texts) ? texts[i] : (texts as Texts).text(i)));
          const other = exact.embed as NonNullable<Teacher['embed']>;
          return compareVectors(await other(asked, kind, quiet), await embed(asked, kind, quiet));
        };
        await check(texts.length, 'texts', compare, watch);
        return embed(texts, kind, watch);
      },
    }),
    ...(embedTokens && {
      async embedTokens(sequences: readonly (readonly number[])[], watch: RunControl = {}) {
        const quiet = { signal: watch.signal };
        const compare = async (exact: T, sample: readonly number[]): Promise<Comparison> => {
          const asked = sample.map((i) => sequences[i]);
          const other = exact.embedTokens as NonNullable<Teacher['embedTokens']>;
          return compareVectors(await other(asked, quiet), await embedTokens(asked, quiet));
        };
        await check(sequences.length, 'texts', compare, watch);
        return embedTokens(sequences, watch);
      },
    }),
    async dispose() {
      await close();
      await small.dispose();
    },
  };
}

function compareScores(exact: Float32Array, rounded: Float32Array): Comparison {
  const correlation = spearman(exact, rounded);
  const largest = exact.reduce((most, x, i) => Math.max(most, Math.abs(x - rounded[i])), 0);
  const [low, high] = [exact.reduce((a, b) => Math.min(a, b)), exact.reduce((a, b) => Math.max(a, b))];
  return {
    // Equal scores throughout have no order to differ in: their correlation is NaN.
    near: !(correlation < LEAST_CORRELATION),
    figures: `rank correlation ${correlation.toFixed(4)}, largest difference ${largest.toFixed(3)} of scores from ${low.toFixed(2)} to ${high.toFixed(2)}`,
  };
}

/** Cosines of each text's two vectors, and the rank correlation of the products of every two texts. */
function compareVectors({ dimensions: D, data: a }: Embeddings, { data: b }: Embeddings): Comparison {
  const n = a.length / D;
  const dot = (x: Float32Array, i: number, y: Float32Array, j: number): number => {
    let sum = 0;
    for (let k = 0; k < D; k++) sum += x[i * D + k] * y[j * D + k];
    return sum;
  };
  const cosines = Array.from({ length: n }, (_, i) => {
    const lengths = Math.sqrt(dot(a, i, a, i) * dot(b, i, b, i));
    // Two zero vectors are equal.
    return lengths ? dot(a, i, b, i) / lengths : Number(dot(a, i, a, i) === dot(b, i, b, i));
  });
  const twos = Array.from({ length: n }, (_, i) => i).flatMap((i) => Array.from({ length: i }, (_, j) => [i, j]));
  const correlation = spearman(
    twos.map(([i, j]) => dot(a, i, a, j)),
    twos.map(([i, j]) => dot(b, i, b, j)),
  );
  const mean = cosines.reduce((sum, c) => sum + c, 0) / n;
  const least = cosines.reduce((low, c) => Math.min(low, c));
  return {
    near: mean >= LEAST_COSINE && !(correlation < LEAST_CORRELATION),
    figures: `cosine ${mean.toFixed(4)} on average, ${least.toFixed(4)} at least, rank correlation of ${twos.length} products ${correlation.toFixed(4)}`,
  };
}
