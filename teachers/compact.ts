/**
 * @file A teacher in a compact form: int8, whose products use the CPU's integer units, or fp16, whose arithmetic is in half precision
 * on CUDA. A sample of its scores or vectors is compared with float32.
 */

import { InputError } from '../common/errors.ts';
import { hashParts } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import type { Texts } from '../data/dataset.ts';
import type { Graph } from '../engine/graph/ir.ts';
import type { ModelSource } from '../engine/io/model-file.ts';
import { encodeGraph, loadGraph, parseGraph } from '../engine/io/onnx-file.ts';
import { halfToFloat32 } from '../engine/passes/normalize.ts';
import { liftOpset } from '../engine/passes/opset.ts';
import { sumHalvesInFloat32 } from '../engine/runtime/cuda.ts';
import type { SessionOptions } from '../engine/runtime/session.ts';
import { spearman } from '../math/rank-correlation.ts';
import { computeHalf } from '../students/export/half.ts';
import { productsToInt8 } from '../students/export/int8.ts';
import { splitOutliers } from '../students/export/outliers.ts';
import { tidy } from '../students/export/simplify.ts';
import { type Embeddings, type Pair, type Teacher, type TeacherDType, teacherDTypes } from './teacher.ts';

/** Products with a scale a column are written in the form of this opset and later. */
const OLDEST_OPSET = 13;
/** Pairs or texts that are compared. */
const SAMPLE = 128;
/** Below this rank correlation the compact form is refused. */
const LEAST_CORRELATION = 0.95;
/** Below this mean cosine of a text's two vectors the compact form is refused: an index may hold vectors of both. */
const LEAST_COSINE = 0.98;

export type CompactForm = Exclude<TeacherDType, 'fp32'>;

/** How each form changes a graph that is tidy and in float32. @throws InputError where it cannot */
const rewrite: Readonly<Record<CompactForm, (graph: Graph, file: string, positions?: number) => Promise<void>>> = {
  /** Products in int8 (a scale an output channel, activations as they come, channels of outliers in float), the rest as it is. */
  async int8(graph, file, positions) {
    liftOpset(graph, OLDEST_OPSET);
    await splitOutliers(graph, positions);
    if (!productsToInt8(graph))
      throw new InputError({
        code: 'teacher.int8',
        subject: `${file} has no product with stored float32 weights to write as int8`,
        remedy: "remove 'dtype: int8'",
      });
  },
  /** Weights and arithmetic in float16, outputs in float32. */
  async fp16(graph) {
    computeHalf(graph);
    sumHalvesInFloat32();
  },
};

export const isCompact = (dtype: TeacherDType | undefined): dtype is CompactForm =>
  dtype !== undefined && Object.hasOwn(rewrite, dtype);

/** A file's graph in a compact form. @throws InputError where the file cannot be read as a graph, or not changed */
export async function compactBytes(
  form: CompactForm,
  source: ModelSource,
  file: string,
  positions?: number,
): Promise<Uint8Array> {
  const graph = 'path' in source ? await loadGraph(source.path) : parseGraph(source.bytes, file);
  await toCompact(form, graph, file, positions);
  return encodeGraph(graph);
}

/** Changes a graph as `compactBytes` does. */
export async function toCompact(form: CompactForm, graph: Graph, file: string, positions?: number): Promise<void> {
  halfToFloat32(graph);
  tidy(graph, file);
  await rewrite[form](graph, file, positions);
}

/** @throws InputError where the type is none of a teacher's, or half precision and the model does not compute on CUDA */
export function checkDType(dtype: TeacherDType | undefined, session: SessionOptions | undefined, file: string): void {
  if (dtype !== undefined && !teacherDTypes.includes(dtype))
    throw new InputError({
      code: 'teacher.dtype',
      subject: `'dtype: ${dtype}' of ${file} is not known`,
      remedy: `use ${teacherDTypes.join(', ')}`,
    });
  const provider = session?.provider ?? 'cpu';
  if (dtype === 'fp16' && provider !== 'cuda')
    throw new InputError({
      code: 'teacher.fp16',
      subject: `'dtype: fp16' is for cuda, and ${file} computes on ${provider} here`,
      remedy: "remove it, set 'dtype: int8' on a CPU, or choose the provider cuda",
    });
}

/** The key of a teacher in its form: the scores of a compact one are others. */
export const keyIn = (dtype: TeacherDType | undefined, key: string): string =>
  isCompact(dtype) ? hashParts(key, dtype) : key;

/** What a comparison found, and whether it is near enough. */
interface Comparison {
  near: boolean;
  figures: string;
}

/**
 * The compact teacher, once a sample of the first pairs or texts that it is asked for has been compared with float32.
 * @param whole the float32 teacher, which is closed after the comparison
 * @throws InputError from its functions, where the two rank the sample differently or their vectors are far apart
 */
export function checkedCompact<T extends Teacher>(whole: T, small: T, form: CompactForm): T {
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
        code: `teacher.${form}`,
        subject: `${small.name} ${unit === 'pairs' ? 'ranks' : 'embeds'} ${sample.length} ${unit} differently in ${form} (${figures})`,
        expected: `a rank correlation of ${LEAST_CORRELATION} or more with float32${unit === 'pairs' ? '' : ` and a mean cosine of ${LEAST_COSINE} or more`}`,
        remedy: `remove 'dtype: ${form}'`,
      });
    const note = `${small.name} in ${form} compared with float32 on ${sample.length} ${unit}: ${figures}`;
    onProgress?.({ stage: unit === 'pairs' ? 'score' : 'embed', done: 0, total: n, unit, note });
  };
  const { embed, embedTokens } = small;
  return {
    ...small,
    key: keyIn(form, small.key),
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

function compareScores(all: Float32Array, small: Float32Array): Comparison {
  // Where the model itself gives no number, its compact form need not.
  const places = Array.from(all.keys()).filter((i) => Number.isFinite(all[i]));
  const [exact, rounded] = [all, small].map((scores) => Float32Array.from(places, (i) => scores[i]));
  const lost = rounded.filter((x) => !Number.isFinite(x)).length;
  const correlation = spearman(exact, rounded);
  const largest = exact.reduce((most, x, i) => Math.max(most, Math.abs(x - rounded[i])), 0);
  const [low, high] = [
    exact.reduce((a, b) => Math.min(a, b), Infinity),
    exact.reduce((a, b) => Math.max(a, b), -Infinity),
  ];
  return {
    // Equal scores throughout have no order to differ in: their correlation is NaN, as that of scores that became equal or no numbers is.
    near: lost === 0 && (correlation >= LEAST_CORRELATION || !(low < high)),
    figures: `${lost ? `${lost} of ${places.length} scores are not finite, ` : ''}rank correlation ${correlation.toFixed(4)}, largest difference ${largest.toFixed(3)} of scores from ${low.toFixed(2)} to ${high.toFixed(2)}`,
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
