/** @file Fewer dimensions for the embeddings of both sides: a learned projection, or some of the dimensions as they are. */
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { differentiate } from '../engine/differentiate.ts';
import { Expr } from '../engine/expressions/expr.ts';
import { Graph } from '../engine/graph/ir.ts';
import type { Tensor } from '../engine/graph/tensor.ts';
import { Session } from '../engine/runtime/session.ts';
import { inBatchKL } from '../losses/in-batch-kl.ts';
import type { LossInputs } from '../losses/loss.ts';
import { Random } from '../math/random.ts';
import { SequentialAttention } from '../math/sequential-attention.ts';
import type { Embeddings } from '../teachers/teacher.ts';
import { learningRateAt } from './learning-rate.ts';
import { type RankingOptions, rankingBatches } from './ranking-batches.ts';
import type { Parameter } from './step/training-step.ts';
import { AdamWHost } from './updates/adamw-host.ts';

export interface FewerOptions extends Omit<Partial<RankingOptions>, 'steps'> {
  /** k, how many dimensions are left. */
  keep: number;
  /** Steps of training; of a selection they follow from `keep`. */
  steps?: number;
  learningRate?: number;
  /** Divides dot products on both sides: 0.05 for cosines. */
  temperature?: number;
}

/**
 * A projection [D, k] of queries and documents, trained so that the projected vectors, scaled to unit length, rank documents as the
 * whole vectors do (KL over the documents of a step). It starts from the principal directions of the documents.
 *
 * @param queries [n, D] unit vectors
 * @param documents [m, D] unit vectors
 * @throws InputError where k is not below D, or there is nothing to learn from
 */
export async function learnProjection(
  queries: Embeddings,
  documents: Embeddings,
  options: FewerOptions,
  watch: RunControl = {},
): Promise<Tensor<'float32'>> {
  const { keep, steps = 600, learningRate = 2e-3, temperature = 0.05, seed = 0 } = options;
  const { dimensions: D } = queries;
  check(queries, documents, keep);
  const parameter: Parameter = {
    name: MAP,
    dims: [D, keep],
    table: false,
    data: principalDirections(documents, keep, Random.of(seed, 'principal directions')),
    gradient: new Float32Array(D * keep),
  };
  const step = await rankingStep(D, [D, keep], temperature, (x, map) => x.matmul(map).l2Normalize());
  const optimizer = new AdamWHost([parameter], { weightDecay: 0 });
  const schedule = { learningRate, warmupSteps: 0, totalSteps: steps, finalShare: 0 };
  try {
    const draw = await rankingBatches(queries, documents, { ...options, steps, seed }, watch);
    for (let i = 0; i < steps; i++) {
      watch.signal?.throwIfAborted();
      const { loss, gradient } = await step.run(draw(i), parameter.data);
      parameter.gradient?.set(gradient);
      optimizer.step(learningRateAt(i, schedule));
      watch.onProgress?.({ stage: 'project', done: i + 1, total: steps, unit: 'steps', loss });
    }
  } finally {
    await step.release();
  }
  return { dtype: 'float32', dims: [D, keep], data: parameter.data };
}

/**
 * The dimensions that Sequential Attention chooses, most important first, by the loss of `learnProjection` under a mask of both sides.
 * Masked vectors are not scaled to unit length here: scaled, those of a uniform mask are the whole vectors, whose loss is 0, and the
 * first choice would be one of noise. A learned projection of as many dimensions ranks far better; a selection needs no product.
 *
 * @returns k positions
 * @throws as learnProjection
 */
export async function selectDimensions(
  queries: Embeddings,
  documents: Embeddings,
  options: FewerOptions,
  watch: RunControl = {},
): Promise<number[]> {
  const { keep, temperature = 0.05, seed = 0 } = options;
  const { dimensions: D } = queries;
  check(queries, documents, keep);
  const perPhase =
    Array.from({ length: keep }, (_, i) => i + 1).find((n) => keep % n === 0 && keep / n <= PHASES) ?? keep;
  // Nothing but the mask is trained: there is nothing to warm up.
  const choice = new SequentialAttention({
    features: D,
    keep,
    step: perPhase,
    warmup: 0,
    random: Random.of(seed, 'sequential attention'),
  });
  const step = await rankingStep(D, [D], temperature, (x, mask) => x.mul(mask));
  try {
    const draw = await rankingBatches(queries, documents, { ...options, steps: choice.steps, seed }, watch);
    for (let i = 0; !choice.finished; i++) {
      watch.signal?.throwIfAborted();
      const { loss, gradient } = await step.run(draw(i), Float32Array.from(choice.mask()));
      choice.update(gradient);
      watch.onProgress?.({ stage: 'select', done: i + 1, total: choice.steps, unit: 'steps', loss });
    }
  } finally {
    await step.release();
  }
  return choice.chosen;
}

/** The matrix [D, k] that takes some dimensions as they are. */
export function selectionMatrix(chosen: readonly number[], D: number): Tensor<'float32'> {
  const data = new Float32Array(D * chosen.length);
  chosen.forEach((i, k) => {
    data[i * chosen.length + k] = 1;
  });
  return { dtype: 'float32', dims: [D, chosen.length], data };
}

/** Each row of a table times a matrix [D, k], scaled to unit length. */
export async function projected({ dimensions: D, data }: Embeddings, matrix: Tensor<'float32'>): Promise<Embeddings> {
  const graph = new Graph(20);
  const rows = new Expr(graph, graph.input('rows', 'float32', ['n', D]));
  graph.output(rows.matmul(new Expr(graph, graph.constant(matrix))).l2Normalize().value, 'projected');
  const session = await Session.load(graph);
  try {
    const found = await session.run({ rows: { dtype: 'float32', dims: [data.length / D, D], data } });
    return { dimensions: matrix.dims[1], data: found.projected.data as Float32Array };
  } finally {
    await session.release();
  }
}

const MAP = 'map';
/** Most phases of a selection; several dimensions are chosen at a time where there would be more. */
const PHASES = 16;

function check(queries: Embeddings, documents: Embeddings, keep: number): void {
  const { dimensions: D } = queries;
  if (!Number.isInteger(keep) || keep < 1 || keep >= D)
    throw new InputError({
      code: 'rotation.dimensions',
      subject: `${keep} dimensions, of vectors of ${D}`,
      expected: `a whole number from 1 to ${D - 1}`,
      remedy: 'e.g. 64 for vectors of 384',
    });
  if (!queries.data.length || !documents.data.length)
    throw new InputError({
      code: 'rotation.nothing-to-learn',
      subject: `${queries.data.length / D} queries and ${documents.data.length / D} documents`,
      remedy: 'name data with queries and documents',
    });
}

/** The loss of mapped vectors, and its gradient by what maps them. @param map of [.., D] unit vectors */
async function rankingStep(D: number, dims: readonly number[], temperature: number, map: (x: Expr, by: Expr) => Expr) {
  const graph = new Graph(20);
  const given = (name: string, shape: (number | string)[]): Expr =>
    new Expr(graph, graph.input(name, 'float32', shape));
  const [teacherQueries, teacherDocuments] = [given('queries', ['queries', D]), given('documents', ['documents', D])];
  const by = given(MAP, [...dims]);
  const loss = inBatchKL({ temperature, studentTemperature: temperature, teacherScores: 'embeddings' })
    .perQuery({
      teacherQueries,
      teacherDocuments,
      queries: map(teacherQueries, by),
      documents: map(teacherDocuments, by),
    } as LossInputs)
    .mean([0])
    .mul(1 / temperature ** 2);
  graph.output(loss.value, 'loss');
  const { gradients } = await differentiate(graph, [loss.value], [by.value]);
  const session = await Session.load(graph, {}, 'the training of a projection');
  return {
    async run(batch: { queries: Tensor; documents: Tensor }, data: Float32Array) {
      const results = await session.run({ ...batch, [MAP]: { dtype: 'float32', dims, data } });
      return { loss: Number(results.loss.data[0]), gradient: results[gradients[MAP]].data as Float32Array };
    },
    release: () => session.release(),
  };
}

/** Documents that principal directions are found from. */
const SAMPLE = 4096;
const ITERATIONS = 12;

/** [D, k] orthonormal: the directions of largest second moment, by iteration of the subspace. */
function principalDirections({ dimensions: D, data }: Embeddings, k: number, random: Random): Float32Array {
  const n = data.length / D;
  const moment = new Float64Array(D * D);
  for (let s = 0; s < Math.min(SAMPLE, n); s++) {
    const at = n > SAMPLE ? random.integer(n) : s;
    for (let a = 0; a < D; a++) for (let b = 0; b < D; b++) moment[a * D + b] += data[at * D + a] * data[at * D + b];
  }
  let basis: Float64Array[] = Array.from({ length: k }, () => Float64Array.from({ length: D }, () => random.normal()));
  for (let i = 0; i < ITERATIONS; i++) {
    const next: Float64Array[] = [];
    for (const v of basis) {
      const own = new Float64Array(D);
      for (let a = 0; a < D; a++) for (let b = 0; b < D; b++) own[a] += moment[a * D + b] * v[b];
      for (let pass = 0; pass < 2; pass++)
        for (const other of next) {
          const dot = own.reduce((s, x, c) => s + x * other[c], 0);
          for (let c = 0; c < D; c++) own[c] -= dot * other[c];
        }
      const norm = Math.hypot(...own);
      // Fewer directions than asked for: any other will do.
      next.push(norm > 1e-12 ? own.map((x) => x / norm) : Float64Array.from({ length: D }, () => random.normal() / D));
    }
    basis = next;
  }
  return Float32Array.from({ length: D * k }, (_, at) => basis[at % k][Math.floor(at / k)]);
}
