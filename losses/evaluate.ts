/** @file Evaluates a loss on plain arrays in float64; compiled once per formula and shape, in a bounded cache. */
import { InputError } from '../common/errors.ts';
import { hashParts } from '../common/files.ts';
import { differentiate } from '../engine/autodiff/differentiate.ts';
import { Expr } from '../engine/expressions/expr.ts';
import { Graph } from '../engine/graph/ir.ts';
import { sizeOf, type Tensor } from '../engine/graph/tensor.ts';
import { encodeGraph } from '../engine/io/onnx-file.ts';
import { probe } from '../engine/runtime/infer-shapes.ts';
import { Session } from '../engine/runtime/session.ts';
import { checkArrays } from './check-arrays.ts';
import { type LossDefinition, type LossInput, type LossInputs, lossInputs, studentInputs } from './inputs.ts';

/** Arrays for `evaluate`: rows of numbers, or a flat array with its shape. */
export type ArrayInput = readonly (readonly number[])[] | { dims: readonly number[]; data: ArrayLike<number> };

/** Value and gradients of a loss. */
export interface Evaluation {
  /** [B] the loss of each query. */
  values: Float64Array;
  /** Mean over queries of weight x value. */
  loss: number;
  /** d loss / d input, flat, for each input on the student's side. */
  gradients: Partial<Record<LossInput, Float64Array>>;
}

/** Mean over queries of weight x value; a query of weight 0 still counts in the denominator. */
export function reduce(values: Expr, weights: Expr): Expr {
  return values.mul(weights).mean([0]);
}

/**
 * @param loss with `perQuery` made safe for padding (see defineLoss); its formula is the key in the cache
 * @throws InputError where an input is missing, shapes disagree or a number is not finite
 */
export async function evaluate(
  loss: LossDefinition,
  arrays: Partial<Record<LossInput, ArrayInput>>,
  weights?: ArrayLike<number>,
): Promise<Evaluation> {
  const given = tensorsOf(loss, arrays);
  checkArrays(loss, given);
  const rows = (['student', 'queries', 'teacher', 'positives', 'owner'] as const).find((n) => given.has(n));
  const queries = rows ? (given.get(rows) as Tensor).dims[0] : 0;
  const feeds: Record<string, Tensor> = { ...Object.fromEntries(given), weights: weightsOf(loss, queries, weights) };
  return using(loss, feeds, async ({ session, outputs }) => {
    const results = await session.run(Object.fromEntries(session.inputs.map((name) => [name, feeds[name]])));
    const flat = (name: string): Float64Array => results[name].data as Float64Array;
    return {
      values: flat(outputs.values),
      loss: flat(outputs.total)[0],
      gradients: Object.fromEntries(
        studentInputs.flatMap((name) => {
          const tensor = given.get(name);
          const gradient = outputs.gradients.get(name);
          return tensor ? [[name, gradient ? flat(gradient) : new Float64Array(sizeOf(tensor.dims))]] : [];
        }),
      ),
    };
  });
}

/** A loss ready to run at one shape. */
interface Compiled {
  session: Session;
  outputs: { values: string; total: string; gradients: ReadonlyMap<LossInput, string> };
}

/** Maximum of cached sessions over all losses; each takes some hundred kilobytes. */
const MOST_SESSIONS = 32;
/** Shapes whose keys a loss remembers; beyond that it forgets them all. */
const MOST_SHAPES = 1024;
const cache = new Map<string, { compiled: Promise<Compiled>; users: number; dropped: boolean }>();
/** The keys of a loss by the shapes of its inputs, so that its formula is written out once a shape. */
const keys = new WeakMap<LossDefinition, Map<string, string>>();

/** Sessions in the cache, for tests. */
export const cachedSessions = (): number => cache.size;

/**
 * Runs with the session for these shapes, made on first use. The key is the formula itself, constants included: a loss that is
 * made anew with the same options in each call uses the same session. Concurrent calls share a session; beyond the limit, the
 * least recently used one is released once it is idle.
 */
async function using<T>(
  loss: LossDefinition,
  feeds: Readonly<Record<string, Tensor>>,
  run: (compiled: Compiled) => Promise<T>,
): Promise<T> {
  const shapes = Object.entries(feeds)
    .map(([name, { dims }]) => `${name}:${dims.join()}`)
    .join(' ');
  const known = keys.get(loss) ?? new Map<string, string>();
  keys.set(loss, known);
  let key = known.get(shapes) ?? '';
  let entry = cache.get(key);
  if (!entry) {
    const formula = formulaOf(loss, feeds);
    key = hashParts(loss.name, Buffer.from(encodeGraph(formula.graph)).toString('base64'));
    if (known.size >= MOST_SHAPES) known.clear();
    known.set(shapes, key);
    entry = cache.get(key) ?? { compiled: compile(loss, formula, feeds), users: 0, dropped: false };
  }
  cache.delete(key); // the newest is last
  cache.set(key, entry);
  entry.users++;
  for (const [other, old] of cache) {
    if (cache.size <= MOST_SESSIONS) break;
    cache.delete(other);
    old.dropped = true;
    if (!old.users) await release(old.compiled);
  }
  try {
    return await run(await entry.compiled);
  } catch (error) {
    if (cache.get(key) === entry) cache.delete(key);
    entry.dropped = true;
    throw error;
  } finally {
    entry.users--;
    if (entry.dropped && !entry.users) await release(entry.compiled);
  }
}

async function release(compiled: Promise<Compiled>): Promise<void> {
  await compiled.then(
    ({ session }) => session.release(),
    () => {},
  );
}

/** A loss written out at one shape, without its gradients. */
interface Formula {
  graph: Graph;
  inputs: LossInputs;
  values: Expr;
  total: Expr;
}

function formulaOf(loss: LossDefinition, feeds: Readonly<Record<string, Tensor>>): Formula {
  const graph = new Graph(20);
  graph.float = 'float64';
  const exprs = Object.fromEntries(
    Object.entries(feeds).map(([name, t]) => [name, new Expr(graph, graph.input(name, t.dtype, t.dims))]),
  );
  const { weights: factors, ...rest } = exprs;
  const inputs = rest as unknown as LossInputs;
  const values = loss.perQuery(inputs);
  const total = reduce(values, factors);
  graph.setOutputs(values.value, total.value);
  graph.dropUnusedInputs();
  return { graph, inputs, values, total };
}

async function compile(
  loss: LossDefinition,
  { graph, inputs, values, total }: Formula,
  feeds: Readonly<Record<string, Tensor>>,
): Promise<Compiled> {
  const parameters = studentInputs.filter((n) => n in inputs).map((n) => inputs[n].value);
  const used = Object.fromEntries(graph.inputs.map((v) => [v.name, feeds[v.name]]));
  const shapes = await probe(graph, [used, used]);
  const gradients = new Map<LossInput, string>();
  for (const [p, g] of differentiate(graph, total.value, parameters, shapes)) {
    if (!('dense' in g)) continue;
    const own = new Expr(graph, g.dense).op('Identity').value;
    graph.output(own);
    gradients.set(p.name as LossInput, own.name);
  }
  const session = await Session.load(graph, { threads: 1, optimize: 'basic' }, `loss '${loss.name}'`);
  return { session, outputs: { values: values.value.name, total: total.value.name, gradients } };
}

/** Converts the arrays to tensors and fills in the defaults of optional inputs. */
function tensorsOf(loss: LossDefinition, arrays: Partial<Record<LossInput, ArrayInput>>): Map<LossInput, Tensor> {
  const known = new Set<LossInput>([...loss.needs, ...(loss.uses ?? [])]);
  const given = new Map<LossInput, Tensor>();
  for (const [name, input] of Object.entries(arrays) as [LossInput, ArrayInput | undefined][])
    if (known.has(name) && input) given.set(name, toTensor(name, input));
  const scores = given.get('student') ?? given.get('teacher');
  if (scores && !given.has('mask'))
    given.set('mask', { dtype: 'float64', dims: scores.dims, data: new Float64Array(scores.data.length).fill(1) });
  addDefaults(given, loss.needs);
  return given;
}

function weightsOf(loss: LossDefinition, queries: number, weights: ArrayLike<number> | undefined): Tensor {
  const data = weights ? Float64Array.from(weights) : new Float64Array(queries).fill(1);
  if (data.length !== queries || !data.every(Number.isFinite))
    throw new InputError({
      code: 'loss.weights',
      subject: `the weights of loss '${loss.name}'`,
      expected: `${queries} finite numbers, one a query`,
      received: data.length === queries ? `${data.find((w) => !Number.isFinite(w))} among them` : `${data.length}`,
    });
  return { dtype: 'float64', dims: [queries], data };
}

/**
 * Defaults of optional inputs: without `positives` document b is the positive of query b, without `inBatch` every document is
 * compared with every query's positive, without `owner` documents belong to the queries in order.
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
  if (!lossInputs[name].integer) return { dtype: 'float64', dims, data: new Float64Array(data) };
  const wrong = Array.from(data).find((v) => !Number.isInteger(v));
  if (wrong !== undefined)
    throw new InputError({
      code: 'loss.position',
      subject: `'${name}'`,
      expected: 'whole numbers',
      received: String(wrong),
    });
  return { dtype: 'int64', dims, data: BigInt64Array.from(Array.from(data), BigInt) };
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
