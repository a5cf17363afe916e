/** @file A cross-encoder in int8: its products use the CPU's integer units, and a sample of its scores is compared with float32. */

import { InputError } from '../common/errors.ts';
import { hashParts } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import type { ModelSource } from '../engine/io/model-file.ts';
import { encodeGraph, loadGraph, parseGraph } from '../engine/io/onnx-file.ts';
import { halfToFloat32 } from '../engine/passes/normalize.ts';
import { liftOpset } from '../engine/passes/opset.ts';
import { spearman } from '../math/rank-correlation.ts';
import { productsToInt8 } from '../students/export/int8.ts';
import { splitOutliers } from '../students/export/outliers.ts';
import { tidy } from '../students/export/simplify.ts';
import type { Pair, Teacher } from './teacher.ts';

/** Products with a scale a column are written in the form of this opset and later. */
const OLDEST_OPSET = 13;
/** Pairs whose scores are compared. */
const SAMPLE = 128;
/** Below this rank correlation another teacher is heard. */
const LEAST_CORRELATION = 0.95;

/**
 * The file with its products in int8 (a scale an output channel, activations as they come, channels of outliers in float), its
 * tables and everything else as they are.
 * @throws InputError where the file cannot be read as a graph, or holds no product with stored weights
 */
export async function int8Bytes(source: ModelSource, file: string, positions?: number): Promise<Uint8Array> {
  const graph = 'path' in source ? await loadGraph(source.path) : parseGraph(source.bytes, file);
  halfToFloat32(graph);
  tidy(graph, file);
  liftOpset(graph, OLDEST_OPSET);
  await splitOutliers(graph, positions);
  if (!productsToInt8(graph))
    throw new InputError({
      code: 'teacher.int8',
      subject: `${file} has no product with stored float32 weights to write as int8`,
      remedy: "remove 'teacher.dtype'",
    });
  return encodeGraph(graph);
}

/** The key of a teacher's int8 form: its scores are others. */
export const int8Key = (key: string): string => hashParts(key, 'int8');

/**
 * The int8 teacher, once a sample of the first pairs that it is asked for has been compared with float32.
 * @param whole the float32 teacher, which is closed after the comparison
 * @throws InputError where they rank the sample differently
 */
export function checkedInt8(whole: Teacher, small: Teacher): Teacher {
  let open: Teacher | undefined = whole;
  const close = async (): Promise<void> => {
    const teacher = open;
    open = undefined;
    await teacher?.dispose();
  };
  const check = async (pairs: readonly Pair[], watch: RunControl): Promise<void> => {
    if (!open || pairs.length < 2) return;
    const step = Math.max(1, Math.floor(pairs.length / SAMPLE));
    const sample = pairs.filter((_, i) => i % step === 0).slice(0, SAMPLE);
    const quiet = { signal: watch.signal };
    const [exact, rounded] = [await open.score(sample, quiet), await small.score(sample, quiet)];
    await close();
    const correlation = spearman(exact, rounded);
    const largest = exact.reduce((most, x, i) => Math.max(most, Math.abs(x - rounded[i])), 0);
    const [low, high] = [exact.reduce((a, b) => Math.min(a, b)), exact.reduce((a, b) => Math.max(a, b))];
    const figures = `rank correlation ${correlation.toFixed(4)}, largest difference ${largest.toFixed(3)} of scores from ${low.toFixed(2)} to ${high.toFixed(2)}`;
    // Equal scores throughout have no order to differ in.
    if (correlation < LEAST_CORRELATION)
      throw new InputError({
        code: 'teacher.int8',
        subject: `${small.name} ranks ${sample.length} pairs differently in int8 (${figures})`,
        expected: `a rank correlation of ${LEAST_CORRELATION} or more with float32`,
        remedy: "remove 'teacher.dtype'",
      });
    watch.onProgress?.({
      stage: 'score',
      done: 0,
      total: pairs.length,
      unit: 'pairs',
      note: `${small.name} in int8 compared with float32 on ${sample.length} pairs: ${figures}`,
    });
  };
  return {
    ...small,
    key: int8Key(small.key),
    async score(pairs, watch: RunControl = {}) {
      await check(pairs, watch);
      return small.score(pairs, watch);
    },
    async dispose() {
      await close();
      await small.dispose();
    },
  };
}
