/** @file What a loss is: one definition in the engine's expressions, for training graphs and for plain arrays alike. */
import { InputError } from '../common/errors.ts';
import { differentiate } from '../engine/autodiff/differentiate.ts';
import { Expr } from '../engine/expressions/expr.ts';
import { Graph, type Value } from '../engine/graph/ir.ts';
import type { Tensor } from '../engine/graph/tensor.ts';
import { probe } from '../engine/runtime/infer-shapes.ts';
import { Session } from '../engine/runtime/session.ts';

/**
 * What a loss may look at. B queries with N candidates each (column 0 is the labelled positive, where there is one);
 * M documents in the step, all queries' candidates without repeats; D and Dt the student's and the teacher's widths.
 */
export interface LossInputs {
  /** [B, N] student's scores of each query's candidates: dot products, unscaled. */
  student: Expr;
  /** [B, N] teacher's raw scores (logits). */
  teacher: Expr;
  /** [B, N] 1 for a candidate, 0 for padding. */
  mask: Expr;
  /** [B, N] int64, each candidate's place among the documents of the step. */
  candidates: Expr;
  /** [B, N] how likely the teacher's label of a candidate is right, from 0 to 1. */
  reliability: Expr;
  /** [B, S, N] S draws of Gumbel noise a query, new in each step. */
  gumbel: Expr;
  /** [B, N, Dt] what a cross-encoder made of the query, and of the document, when it read the two together. */
  pairQueries: Expr;
  pairDocuments: Expr;
  /** [B, D] student's query embeddings. */
  queries: Expr;
  /** [M, D] student's document embeddings. */
  documents: Expr;
  /** [B, M] 1 where a document is the query's labelled positive. */
  positives: Expr;
  /** [B, M] 1 where a document may stand against the query's positive: 0 for its other positives and for duplicates. */
  inBatch: Expr;
  /** [B, M] 1 at one query a document: which query's value a document's own loss is added to. */
  owner: Expr;
  /** [B, M] the teacher's raw scores of all documents of the step; NaN where it was not asked. */
  teacherInBatch: Expr;
  /** [B, Dt] and [M, Dt] the teacher's embeddings. */
  teacherQueries: Expr;
  teacherDocuments: Expr;
  /** [D, Dt] learned map from the student's space to the teacher's, where the widths differ. */
  projection: Expr;
}
export type LossInput = keyof LossInputs;

/** Inputs that hold whole numbers. */
const integers: readonly LossInput[] = ['candidates'];

/** Arrays for `evaluate`: rows of numbers, or a flat array with its shape. */
export type ArrayInput = readonly (readonly number[])[] | { dims: readonly number[]; data: ArrayLike<number> };

export interface Evaluation {
  /** [B] the loss of each query. */
  values: Float64Array;
  /** Mean over queries of weight x value. */
  loss: number;
  /** d loss / d input, flat, for each input on the student's side. */
  gradients: Partial<Record<LossInput, Float64Array>>;
}

export interface Loss {
  readonly name: string;
  /** The inputs it cannot do without. */
  readonly needs: readonly LossInput[];
  /** The inputs it uses where they are given. */
  readonly uses: readonly LossInput[];
  /** [B] the loss of each query, not yet weighted or averaged. */
  perQuery(inputs: LossInputs): Expr;
  /**
   * Value and gradients on plain arrays, in float64; no model is needed.
   * @param arrays the inputs named in `needs`, and any of `uses`
   * @param weights [B] a factor for each query; 1 by default
   * @throws InputError where an input is missing or shapes disagree
   */
  evaluate(arrays: Partial<Record<LossInput, ArrayInput>>, weights?: ArrayLike<number>): Promise<Evaluation>;
}

const studentSide: readonly LossInput[] = ['student', 'queries', 'documents', 'projection'];

/** Makes a loss of its definition. */
export function defineLoss(definition: {
  name: string;
  needs: readonly LossInput[];
  uses?: readonly LossInput[];
  perQuery(inputs: LossInputs): Expr;
}): Loss {
  const uses = definition.uses ?? [];
  const made: Loss = {
    ...definition,
    perQuery: (inputs) => definition.perQuery(prepared(inputs)),
    uses,
    evaluate: (arrays, weights) => evaluate(made, [...definition.needs, ...uses], arrays, weights),
  };
  return made;
}

const padded: readonly LossInput[] = ['student', 'teacher', 'reliability', 'pairQueries', 'pairDocuments'];

/**
 * What the teacher says is constant; where the mask has padding there are zeros, so that nothing that stands there counts, not
 * even NaN.
 */
function prepared(inputs: LossInputs): LossInputs {
  const real = inputs.mask?.greater(0); // [B, N]
  const clean = (name: LossInput, e: Expr): Expr => {
    if (!real) return e;
    if (name === 'gumbel') return real.unsqueeze(1).where(e, 0);
    if (!padded.includes(name)) return e;
    return (name.startsWith('pair') ? real.unsqueeze(2) : real).where(e, 0);
  };
  return Object.fromEntries(
    (Object.entries(inputs) as [LossInput, Expr | undefined][]).flatMap(([name, e]) =>
      e
        ? [
            [
              name,
              studentSide.includes(name) || integers.includes(name) ? clean(name, e) : clean(name, e).stopGradient(),
            ],
          ]
        : [],
    ),
  ) as unknown as LossInputs;
}

/** mean over queries of weight x value: a weight of 0 is as if the query's loss were 0. */
export function reduce(values: Expr, weights: Expr): Expr {
  return values.mul(weights).mean([0]);
}

async function evaluate(
  loss: Pick<Loss, 'name' | 'needs' | 'perQuery'>,
  known: readonly LossInput[],
  arrays: Partial<Record<LossInput, ArrayInput>>,
  weights?: ArrayLike<number>,
): Promise<Evaluation> {
  const given = new Map<LossInput, Tensor>();
  for (const [name, input] of Object.entries(arrays) as [LossInput, ArrayInput][])
    if (known.includes(name)) given.set(name, toTensor(name, input));
  const scores = given.get('student') ?? given.get('teacher');
  if (scores && !given.has('mask'))
    given.set('mask', { dtype: 'float64', dims: scores.dims, data: new Float64Array(scores.data.length).fill(1) });
  addDefaults(given, loss.needs);
  for (const name of loss.needs)
    if (!given.has(name))
      throw new InputError({
        code: 'loss.missing-input',
        subject: `loss '${loss.name}' has no '${name}'`,
        expected: loss.needs.join(', '),
        received: [...given.keys()].join(', ') || 'nothing',
      });
  const rows = (['student', 'queries', 'teacher', 'positives', 'owner'] as const).find((n) => given.has(n));
  const queries = rows ? (given.get(rows) as Tensor).dims[0] : 0;
  const graph = new Graph(20);
  graph.float = 'float64';
  const inputs = Object.fromEntries(
    [...given].map(([name, t]) => [name, new Expr(graph, graph.input(name, t.dtype, t.dims))]),
  ) as unknown as LossInputs;
  const weight = new Expr(graph, graph.input('weights', 'float64', [queries]));
  const values = loss.perQuery(inputs);
  const total = reduce(values, weight);
  const feeds = Object.fromEntries([
    ...given,
    [
      'weights',
      { dtype: 'float64', dims: [queries], data: Float64Array.from(weights ?? Array(queries).fill(1)) } as Tensor,
    ],
  ]);
  const parameters = studentSide.filter((n) => given.has(n)).map((n) => inputs[n].value);
  graph.setOutputs(values.value, total.value);
  graph.dropUnusedInputs();
  const used = Object.fromEntries(graph.inputs.map((v) => [v.name, feeds[v.name]]));
  const shapes = await probe(graph, [used, used]);
  const gradients = differentiate(graph, total.value, parameters, shapes);
  const outputs = new Map<LossInput, Value>();
  for (const [p, g] of gradients)
    if ('dense' in g) outputs.set(p.name as LossInput, new Expr(graph, g.dense).op('Identity').value);
  for (const v of outputs.values()) graph.output(v);
  const session = await Session.load(graph, { threads: 1, optimize: 'basic' }, `loss '${loss.name}'`);
  try {
    const results = await session.run(used);
    const flat = (v: Value): Float64Array => results[v.name].data as Float64Array;
    return {
      values: flat(values.value),
      loss: flat(total.value)[0],
      gradients: Object.fromEntries(
        parameters.map((p) => {
          const v = outputs.get(p.name as LossInput);
          return [p.name, v ? flat(v) : new Float64Array((given.get(p.name as LossInput) as Tensor).data.length)];
        }),
      ),
    };
  } finally {
    await session.release();
  }
}

/**
 * What plain arrays need not say: without `positives` document b is query b's, without `inBatch` every document may stand
 * against every query, without `owner` documents belong to the queries in their order.
 */
function addDefaults(given: Map<LossInput, Tensor>, needs: readonly LossInput[]): void {
  const B = given.get('queries')?.dims[0] ?? given.get('teacherInBatch')?.dims[0];
  const M = given.get('documents')?.dims[0];
  if (B === undefined || M === undefined) return;
  const rules: Partial<Record<LossInput, (b: number, m: number) => boolean>> = {
    positives: (b, m) => b === m,
    inBatch: () => true,
    owner: (b, m) => b === Math.floor((m * B) / M),
  };
  for (const [name, rule] of Object.entries(rules) as [LossInput, (b: number, m: number) => boolean][])
    if (needs.includes(name) && !given.has(name)) {
      const data = Float64Array.from({ length: B * M }, (_, i) => Number(rule(Math.floor(i / M), i % M)));
      given.set(name, { dtype: 'float64', dims: [B, M], data });
    }
}

function toTensor(name: LossInput, input: ArrayInput): Tensor {
  const { dims, data } = 'dims' in input ? input : flatten(name, input);
  if (integers.includes(name)) return { dtype: 'int64', dims, data: BigInt64Array.from(Array.from(data), BigInt) };
  return { dtype: 'float64', dims, data: Float64Array.from(data) };
}

function flatten(name: string, rows: readonly (readonly number[])[]): { dims: readonly number[]; data: number[] } {
  const width = rows[0]?.length ?? 0;
  if (rows.some((row) => row.length !== width))
    throw new InputError({
      code: 'loss.ragged',
      subject: `'${name}' has rows of different lengths`,
      remedy: 'pad the shorter rows and give a mask',
    });
  return { dims: [rows.length, width], data: rows.flat() };
}

/** Scores with padding at a very small finite number, so that softmax gives it nothing and no NaN arises. */
export const masked = (scores: Expr, mask: Expr): Expr => mask.greater(0).where(scores, -1e9);

/** Each document's own value [M], added to the query that owns it, so that the mean over queries is the mean over documents. */
export const byOwner = (each: Expr, owner: Expr): Expr =>
  // Each column of owner [B, M] holds a single 1, so the mean of the rows' sums is M / B.
  owner
    .mul(each.unsqueeze(0))
    .sum([1])
    .div(owner.sum([1]).mean([0], true));

/** Mean over a query's candidates, padding left out; 0 where there is none. */
export const meanOver = (values: Expr, mask: Expr): Expr =>
  values
    .mul(mask)
    .sum([1])
    .div(mask.sum([1]).max(1));

/**
 * [B, M] the teacher's scores of all documents of the step and whether it gave one: as given, or the dot products of its
 * embeddings.
 */
export function scoresInBatch(
  { teacherInBatch, teacherQueries, teacherDocuments }: LossInputs,
  from: 'given' | 'embeddings',
): { scores: Expr; known: Expr | undefined } {
  if (from === 'embeddings')
    return { scores: teacherQueries.matmul(teacherDocuments.transpose(1, 0)).stopGradient(), known: undefined };
  const known = teacherInBatch.equal(teacherInBatch).float(); // NaN equals nothing
  return { scores: known.greater(0).where(teacherInBatch, 0).stopGradient(), known };
}

/** T^2 KL(softmax(t / T) || softmax(s / T')) along the last axis, over what the mask leaves. */
export function divergence(
  student: Expr,
  teacher: Expr,
  mask: Expr,
  temperature: number,
  studentTemperature: number,
): Expr {
  const logP = masked(teacher.mul(1 / temperature), mask)
    .logSoftmax()
    .stopGradient();
  const logQ = masked(student.mul(1 / studentTemperature), mask).logSoftmax();
  // Padding has p = 0 and finite logarithms, so it adds nothing.
  return logP
    .exp()
    .mul(logP.sub(logQ))
    .mul(mask)
    .sum([-1])
    .mul(temperature ** 2);
}

/** 1 off the diagonal of [n, n], n the rows of e. */
export function notSelf(e: Expr): Expr {
  const place = e
    .stopGradient()
    .mul(0)
    .add(1)
    .mean([1])
    .op('CumSum', [e.ints(0).squeeze(0)]); // 1, 2, ..., n
  return place.unsqueeze(1).equal(place.unsqueeze(0)).not().float();
}
