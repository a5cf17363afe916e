/** @file Learns a rotation of embeddings after which prefixes rank as full vectors do: Matryoshka without training an encoder. */
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { differentiate } from '../engine/differentiate.ts';
import { constant, Expr } from '../engine/expressions/expr.ts';
import { Graph } from '../engine/graph/ir.ts';
import { identity, type Tensor } from '../engine/graph/tensor.ts';
import { Session } from '../engine/runtime/session.ts';
import { inBatchKL } from '../losses/in-batch-kl.ts';
import type { LossInputs } from '../losses/loss.ts';
import { matryoshka } from '../losses/matryoshka.ts';
import type { Embeddings } from '../teachers/teacher.ts';
import { learningRateAt } from './learning-rate.ts';
import { rankingBatches } from './ranking-batches.ts';
import type { Parameter } from './step/training-step.ts';
import { AdamWHost } from './updates/adamw-host.ts';

export interface RotationOptions {
  /** Prefix widths to optimize, each below the full width. */
  dimensions: readonly number[];
  steps?: number;
  /** Queries per step. */
  queries?: number;
  /** Documents per step: the queries' nearest ones, and random others. */
  documents?: number;
  learningRate?: number;
  /** Divides dot products on both sides: 0.05 for cosines. */
  temperature?: number;
  seed?: number;
}

/**
 * An orthogonal matrix R for which the prefixes of q R and d R, scaled to unit length, rank documents as q and d do:
 *
 *     minimise  sum_m mean_q KL( softmax(q P^T / T) || softmax((q R)[:m] (P R)[:m]^T / T) )
 *
 * over steps' queries and documents. Full vectors lose nothing, since (q R) . (d R) = q . d. An optimizer's step leaves the set
 * of orthogonal matrices; the next one starts from the nearest orthogonal matrix, found by the Newton-Schulz iteration X <- X (3
 * I - X^T X) / 2, which is part of the differentiated graph.
 *
 * @param queries [n, D] unit vectors, in the space of the documents
 * @param documents [m, D] unit vectors
 * @returns R [D, D] row-major; vectors are rows and are multiplied from the left
 * @throws InputError if a width is not below D, or there are no queries or documents
 * @source the prefixes of Kusupati et al., NeurIPS 2022 (arXiv 2205.13147); the rotation is our choice
 */
export async function learnRotation(
  queries: Embeddings,
  documents: Embeddings,
  options: RotationOptions,
  watch: RunControl = {},
): Promise<Float32Array> {
  const { dimensions, steps = 600, learningRate = 2e-3, temperature = 0.05, seed = 0 } = options;
  const { dimensions: D } = queries;
  const [n, m] = [queries.data.length / D, documents.data.length / D];
  if (!dimensions.length || dimensions.some((d) => !Number.isInteger(d) || d < 1 || d >= D))
    throw new InputError({
      code: 'rotation.dimensions',
      subject: `prefixes of [${dimensions}] dimensions, of vectors of ${D}`,
      expected: `whole numbers from 1 to ${D - 1}`,
      remedy: 'e.g. dimensions: [192, 96, 48] for vectors of 384',
    });
  if (!n || !m)
    throw new InputError({
      code: 'rotation.nothing-to-learn',
      subject: `a rotation of ${n} queries and ${m} documents`,
      remedy: 'name data with queries and documents',
    });
  const { graph, gradient } = await rotationGraph(D, dimensions, temperature);
  const session = await Session.load(graph, {}, 'the training of a rotation');
  const parameter: Parameter = {
    name: ROTATION,
    dims: [D, D],
    table: false,
    data: identity(D).data,
    gradient: new Float32Array(D * D),
  };
  const optimizer = new AdamWHost([parameter], { weightDecay: 0 });
  const schedule = { learningRate, warmupSteps: 0, totalSteps: steps, finalShare: 0 };
  try {
    const draw = await rankingBatches(queries, documents, { ...options, steps, seed }, watch);
    for (let step = 0; step < steps; step++) {
      watch.signal?.throwIfAborted();
      const results = await session.run({
        ...draw(step),
        [ROTATION]: float32([D, D], parameter.data),
      });
      parameter.gradient?.set(results[gradient].data as Float32Array);
      parameter.data.set(results.nearest.data as Float32Array);
      optimizer.step(learningRateAt(step, schedule));
      const total = Number(results.loss.data[0]);
      watch.onProgress?.({ stage: 'rotate', done: step + 1, total: steps, unit: 'steps', loss: total });
    }
  } finally {
    await session.release();
  }
  return nearestOrthogonal(parameter.data, D);
}

/** Each row of a table times R. */
export async function rotated({ dimensions: D, data }: Embeddings, R: Float32Array): Promise<Embeddings> {
  const graph = new Graph(20);
  const rows = new Expr(graph, graph.input('rows', 'float32', ['n', D]));
  graph.output(rows.matmul(new Expr(graph, graph.input(ROTATION, 'float32', [D, D]))).value, 'rotated');
  const session = await Session.load(graph);
  try {
    const found = await session.run({
      rows: float32([data.length / D, D], data),
      [ROTATION]: float32([D, D], R),
    });
    return { dimensions: D, data: found.rotated.data as Float32Array };
  } finally {
    await session.release();
  }
}

const ROTATION = 'rotation';
/** Iterations per step: a step moves singular values some hundredths from 1, and each iteration squares the error. */
const ITERATIONS = 3;

async function rotationGraph(
  D: number,
  dimensions: readonly number[],
  temperature: number,
): Promise<{ graph: Graph; gradient: string }> {
  const graph = new Graph(20);
  const given = (name: string, dims: (number | string)[]): Expr => new Expr(graph, graph.input(name, 'float32', dims));
  const teacherQueries = given('queries', ['queries', D]);
  const teacherDocuments = given('documents', ['documents', D]);
  const raw = given(ROTATION, [D, D]);
  const eye = constant(graph, 'float32', [D, D], identity(D).data);
  let R = raw;
  for (let i = 0; i < ITERATIONS; i++) R = R.matmul(eye.mul(1.5).sub(R.transpose(1, 0).matmul(R).mul(0.5)));
  const loss = matryoshka(inBatchKL({ temperature, studentTemperature: temperature, teacherScores: 'embeddings' }), {
    dimensions,
  })
    .perQuery({
      teacherQueries,
      teacherDocuments,
      queries: teacherQueries.matmul(R),
      documents: teacherDocuments.matmul(R),
    } as LossInputs)
    .mean([0])
    .mul(1 / temperature ** 2);
  graph.output(loss.value, 'loss');
  graph.output(R.value, 'nearest');
  const { gradients } = await differentiate(graph, [loss.value], [raw.value]);
  return { graph, gradient: gradients[ROTATION] };
}

/** The orthogonal matrix nearest to X, in double precision, for an X whose singular values are in (0, sqrt 3). */
function nearestOrthogonal(from: Float32Array, D: number): Float32Array {
  let X = Float64Array.from(from);
  for (let i = 0; i < 20; i++) {
    const gram = new Float64Array(D * D);
    for (let r = 0; r < D; r++)
      for (let a = 0; a < D; a++) for (let b = 0; b < D; b++) gram[a * D + b] += X[r * D + a] * X[r * D + b];
    let off = 0;
    for (let k = 0; k < D * D; k++) off = Math.max(off, Math.abs(gram[k] - (k % (D + 1) ? 0 : 1)));
    if (off < 1e-9) break;
    const next = new Float64Array(D * D);
    for (let r = 0; r < D; r++)
      for (let k = 0; k < D; k++) {
        const x = X[r * D + k];
        for (let c = 0; c < D; c++) next[r * D + c] += x * ((k === c ? 1.5 : 0) - 0.5 * gram[k * D + c]);
      }
    X = next;
  }
  return Float32Array.from(X);
}

const float32 = (dims: number[], data: Float32Array): Tensor<'float32'> => ({ dtype: 'float32', dims, data });
