/** @file A step on the host as one session run: any differentiated step, its gradients written into the parameters. */
import type { Gradient } from '../../engine/autodiff/differentiate.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { afterPass } from '../../engine/graph/checker.ts';
import type { Graph, Node, Value } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { firstNotFiniteValue } from '../../engine/runtime/find-non-finite.ts';
import { Session, type SessionOptions } from '../../engine/runtime/session.ts';
import { type DifferentiatedStep, type HostStep, parametersOf, tableNames, wantedFeeds } from './training-step.ts';

/** @param step its graph is extended in place */
export async function singleRun<B>(step: DifferentiatedStep<B>, options?: SessionOptions): Promise<HostStep<B>> {
  const { graph, start, gradients } = step;
  const tables = tableNames(graph);
  const multiplied = step.products && emitProducts(graph, step.products);
  const { dense, rows } = emitGradients(graph, gradients);
  const session = await Session.load(graph, options, 'the training graph');
  const trained = [...start].filter(([name]) => gradients.has(name));
  const parameters = parametersOf(
    trained,
    (name) => dense.has(name),
    (name) => tables.has(name),
    step.products,
  );
  // Weights that no loss depends on are fed with their initial values.
  const weights: Record<string, Tensor> = Object.fromEntries(start);
  const into: Record<string, Tensor> = {};
  for (const { name, dims, data, gradient } of parameters) {
    weights[name] = { dtype: 'float32', dims, data };
    const output = dense.get(name);
    if (output && gradient) into[output] = { dtype: 'float32', dims, data: gradient };
  }
  const feedsOf = (batch: B, number: number): Record<string, Tensor> =>
    wantedFeeds(session.inputs, weights, step.feeds(batch, number));
  return {
    graph,
    parameters,
    async run(batch, number = 0) {
      const results = await session.run(feedsOf(batch, number), into);
      for (const p of parameters)
        p.rows = rows.get(p.name)?.map((r) => ({
          indices: results[r.indices].data as BigInt64Array,
          rows: results[r.rows].data as Float32Array,
        }));
      for (const p of parameters) {
        const own = multiplied?.get(p.name);
        if (own) p.multiplied = { x: results[own.x], ...(own.before && { before: results[own.before] }) };
      }
      const scalar = (name: string): number => Number(results[name].data[0]);
      return { loss: scalar(step.total), terms: step.terms.map(scalar) };
    },
    inspect: (batch, number) => firstNotFiniteValue(graph, feedsOf(batch, number)),
    release: () => session.release(),
  };
}

/** Makes the inputs of products outputs. @returns their names by weight */
function emitProducts(graph: Graph, products: NonNullable<DifferentiatedStep<unknown>['products']>) {
  const emit = (v: Value): string => {
    if (!graph.outputs.includes(v)) graph.output(v, graph.freshName('multiplied'));
    return v.name;
  };
  return new Map([...products].map(([name, { x, before }]) => [name, { x: emit(x), before: before && emit(before) }]));
}

/** Names the gradients as outputs, and orders nodes so that each gradient is computed early. @returns output names by weight */
export function emitGradients(graph: Graph, gradients: ReadonlyMap<string, Gradient>) {
  const dense = new Map<string, string>();
  const rows = new Map<string, { indices: string; rows: string }[]>();
  const leaves: Value[] = [];
  const emit = (v: Value, name: string): string => {
    // A value with other readers, or that is already an output, keeps its name; the output is a copy.
    const own = v.producer && !v.readers.size && !leaves.includes(v) ? v : new Expr(graph, v).op('Identity').value;
    own.name = graph.freshName(name);
    leaves.push(own);
    return own.name;
  };
  for (const [name, gradient] of gradients) {
    if ('dense' in gradient) dense.set(name, emit(gradient.dense, `gradient:${name}`));
    else
      rows.set(
        name,
        gradient.rows.map((r, i) => ({
          indices: emit(r.indices, `indices${i}:${name}`),
          rows: emit(r.rows, `rows${i}:${name}`),
        })),
      );
  }
  for (const v of leaves) graph.output(v);
  graph.dropUnused();
  orderForMemory(graph, leaves);
  afterPass(graph);
  return { dense, rows };
}

/**
 * ONNX Runtime orders nodes itself: depth first from the nodes without readers, the last of them first. So the gradients come at
 * the end, those of the last layer last: each is computed as early as possible, and its intermediate values are freed.
 */
function orderForMemory(graph: Graph, leaves: readonly Value[]): void {
  graph.sort();
  // A gradient with readers (two weights can share one) stays before them.
  const ends = new Set(leaves.map((v) => v.producer as Node).filter((n) => n.outputs.every((v) => !v.readers.size)));
  const place = new Map(graph.nodes.map((n, i) => [n, i]));
  const at = (n: Node): number => place.get(n) as number;
  graph.reorder([...graph.nodes.filter((n) => !ends.has(n)), ...[...ends].sort((a, b) => at(b) - at(a))]);
}
