/**
 * @file The training step of late interaction over frozen token states: states in; losses and the gradients of projections, scorer
 * and the weight of the cosine out.
 */
import { InputError } from '../../common/errors.ts';
import { differentiate } from '../../engine/autodiff/differentiate.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph, type Value } from '../../engine/graph/ir.ts';
import { sizeOf, type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { probe } from '../../engine/runtime/infer-shapes.ts';
import { type LossInput, type LossInputs, lossInputs } from '../../losses/inputs.ts';
import { reduce } from '../../losses/loss.ts';
import { LATE } from '../../students/late/late-model.ts';
import type { LateScorer, LateWeights } from '../../students/late/scorer.ts';
import type { WeightedLoss } from '../step/loss-graph.ts';
import type { DifferentiatedStep } from '../step/training-step.ts';
import type { LateBatch } from './late-batch.ts';

export interface LateStepOptions {
  scorer: LateScorer;
  losses: readonly WeightedLoss[];
  /** Start of every weight that is trained, by its name in `LATE`. */
  start: LateWeights;
  opset?: number;
}

/** What losses over scores can read. */
const available: ReadonlySet<LossInput> = new Set<LossInput>([
  'student',
  'teacher',
  'mask',
  'positives',
  'inBatch',
  'owner',
  'candidates',
  'queries',
  'documents',
]);
const overAll: readonly LossInput[] = ['queries', 'documents', 'positives', 'inBatch', 'owner'];

/** Whether some loss compares every query with every document of the step. */
export const comparesAll = (losses: readonly WeightedLoss[]): boolean =>
  losses.some(({ loss }) => loss.needs.some((n) => overAll.includes(n)));

/** @throws InputError where a loss reads what scores do not have */
export function checkLateLosses(losses: readonly WeightedLoss[]): void {
  for (const { loss } of losses) {
    const missing = loss.needs.find((n) => !available.has(n));
    if (missing)
      throw new InputError({
        code: 'late.loss',
        subject: `the loss '${loss.name}' reads '${missing}', and a scorer of late interaction gives scores alone`,
        expected: 'losses over scores: kl, margin-mse, info-nce, bce, mse and their kind',
        remedy: 'remove it',
      });
  }
}

/** @throws InputError where no loss is given, or one reads what scores do not have */
export async function lateStep({
  scorer,
  losses,
  start,
  opset = 20,
}: LateStepOptions): Promise<DifferentiatedStep<LateBatch>> {
  checkLateLosses(losses);
  if (!losses.length)
    throw new InputError({ code: 'train.no-loss', subject: 'no loss is given', remedy: 'name at least one' });
  const all = comparesAll(losses);
  const graph = new Graph(opset);
  const given = (name: string, dtype: 'float32' | 'float16' | 'int64', dims: (string | number)[]): Expr =>
    new Expr(graph, graph.input(name, dtype, dims));
  const weights = new Map(Array.from(start, ([name, t]) => [name, given(name, 'float32', [...t.dims])]));
  const weight = (name: string): Expr => weights.get(name) as Expr;
  const [width, D] = (start.get(LATE.projection) as Tensor).dims;
  const own = weights.get(LATE.queryProjection);
  const queryWidth = start.get(LATE.queryProjection)?.dims[0] ?? width;

  // Documents: all of the step for every query [1, M, ...], or each query's own candidates [B, N, ...].
  const [rows, count] = all ? [1, 'documents'] : ['queries', 'candidates'];
  const documentDims = all ? [count, 'documentTokens'] : [rows, count, 'documentTokens'];
  const states = given('queryStates', 'float16', ['queries', 'queryTokens', queryWidth]).cast('float32');
  const documentStates = given('documentStates', 'float16', [...documentDims, width]).cast('float32');
  const queryMask = given('queryMask', 'float32', ['queries', 'queryTokens']);
  const documentMask = given('documentMask', 'float32', documentDims);
  const cosine = given('cosine', 'float32', ['queries', count]);
  const queries = states.matmul(own ?? weight(LATE.projection)).l2Normalize(); // [B, Lq, D]
  const documents = documentStates.matmul(weight(LATE.projection)).l2Normalize(); // [(B,) C, Ld, D]
  const inputs = all
    ? {
        documents: documents.unsqueeze(0),
        documentMask: documentMask.unsqueeze(0),
        // One product of all tokens with all tokens.
        similarity: products(queries.reshape(-1, D), documents.reshape(-1, D), queries, documents),
      }
    : { documents, documentMask, similarity: eachProducts(queries, documents, D) };
  const scorerWeights = Object.fromEntries(
    [...scorer.start({ dimensions: D, queryTokens: 1, documentTokens: 1 }, 0).keys()].map((name) => [
      name,
      weight(LATE.scorer(name)),
    ]),
  );
  const residual = weights.get(LATE.residual);
  const interaction = scorer.scores({ queries, queryMask, ...inputs }, scorerWeights); // [B, C]
  const scores = residual ? interaction.add(cosine.mul(residual)) : interaction;

  const candidates = given('candidates', 'int64', ['queries', 'candidates']);
  const arrays = Object.fromEntries(
    (['teacher', 'mask', 'positives', 'inBatch', 'owner'] as const).map((name) => [
      name,
      given(name, 'float32', [...lossInputs[name].dims]),
    ]),
  );
  const factors = given('weights', 'float32', ['queries']);
  const asLoss = {
    ...arrays,
    candidates,
    student: all ? scores.gatherElements(candidates, 1) : scores,
    // Losses over all documents multiply vectors: rows of scores times the unit vectors are the scores.
    ...(all && { queries: scores, documents: unitVectors(documents) }),
  } as unknown as LossInputs;
  const terms = losses.map(({ loss }) => reduce(loss.perQuery(asLoss), factors));
  const total = terms.map((t, i) => t.mul(losses[i].weight)).reduce((a, b) => a.add(b)).value;
  graph.setOutputs(total, ...terms.map((t) => t.value));
  graph.prune();
  graph.dropUnusedInputs();

  const shapes = await probe(graph, [sampleFeeds(graph, start, scorer, 0), sampleFeeds(graph, start, scorer, 1)]);
  const trained = [...weights].filter(([, w]) => w.value.readers.size);
  const gradients = differentiate(
    graph,
    total,
    trained.map(([, w]) => w.value),
    shapes,
    { forms: 'cpu' },
  );
  const read = new Set(graph.inputs.map((v) => v.name));
  return {
    graph,
    start: new Map(trained.map(([name]) => [name, start.get(name) as Tensor])),
    gradients: new Map([...gradients].map(([v, g]) => [v.name, g])),
    total: total.name,
    terms: terms.map((t) => t.value.name),
    feeds: (batch) => Object.fromEntries(Object.entries(batch.feeds).filter(([name]) => read.has(name))),
  };
}

/** [B, Lq, M, Ld] dot products of all tokens, from both as matrices. */
function products(a: Expr, b: Expr, queries: Expr, documents: Expr): Expr {
  const sizes = (e: Expr): Expr => e.shape().slice(0, 2, 0);
  return a.matmul(b.transpose(1, 0)).reshapeTo(sizes(queries).concat([sizes(documents)], 0));
}

/** [B, Lq, N, Ld] dot products of each query's tokens with those of its own documents [B, N, Ld, D]. */
function eachProducts(queries: Expr, documents: Expr, D: number): Expr {
  const flat = documents.reshape(0, -1, D).transpose(0, 2, 1); // [B, D, N Ld]
  const shape = queries
    .shape()
    .slice(0, 2, 0)
    .concat([documents.shape().slice(1, 3, 0)], 0);
  return queries.matmul(flat).reshapeTo(shape);
}

/** [M, M] a unit vector a document. @param documents [M, Ld, D] */
function unitVectors(documents: Expr): Expr {
  const ones = documents.stopGradient().mul(0).sum([1, 2]).add(1); // [M]
  const place = ones.op('CumSum', [documents.ints(0).squeeze(0)]);
  return place.unsqueeze(1).equal(place.unsqueeze(0)).float();
}

/** Feeds of two sizes in which no two dimensions that can differ are equal. */
function sampleFeeds(graph: Graph, start: LateWeights, { fixedLengths }: LateScorer, k: 0 | 1): Record<string, Tensor> {
  const fixed = (name: string): number | undefined =>
    fixedLengths && (start.get(LATE.scorer(name)) as Tensor | undefined)?.dims[0];
  const size: Record<string, number> = {
    queries: [5, 7][k],
    candidates: [3, 4][k],
    documents: [13, 17][k],
    queryTokens: fixed('along.query') ?? [9, 11][k],
    documentTokens: fixed('along.document') ?? [21, 25][k],
  };
  return Object.fromEntries(
    graph.inputs.map((v: Value) => {
      const known = start.get(v.name);
      if (known) return [v.name, known];
      const dims = (v.dims ?? []).map((d) => (typeof d === 'number' ? d : size[d]));
      // 0x3c00 is 1 in float16; positions of 0 are valid everywhere.
      const one = v.dtype === 'float16' ? 0x3c00 : v.dtype === 'int64' ? 0 : 1;
      return [v.name, tensor(v.dtype ?? 'float32', dims, new Float32Array(sizeOf(dims)).fill(one))];
    }),
  );
}
