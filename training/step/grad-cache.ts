/**
 * @file A step with bounded memory: first the embeddings of all texts and the losses' gradient with respect to them, then a
 * forward and backward pass per chunk.
 */
import type { Value } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { Session, type SessionOptions } from '../../engine/runtime/session.ts';
import type { StepBatch } from '../batches/batches.ts';
import { type GroupedBatch, tokenFeeds } from './assemble.ts';
import type { EncoderGraph } from './encoder-graph.ts';
import type { LossGraph } from './loss-graph.ts';
import { addRows } from './sparse-rows.ts';
import { type HostStep, type Parameter, parametersOf, tableNames, wantedFeeds } from './training-step.ts';

/**
 * GradCache: the same gradients as the plain step, since the loss depends on weights only through the embeddings:
 * dL/dw = sum over chunks of d<E(chunk), dL/dE(chunk)>/dw. Dropout masks are the same in both passes.
 *
 * @source Gao, Zhang, Han, Callan 2021 (arXiv 2101.06983)
 */
export async function gradCache(
  encoder: EncoderGraph,
  losses: LossGraph,
  start: ReadonlyMap<string, Tensor>,
  group: (batch: StepBatch, step: number) => GroupedBatch,
  options?: SessionOptions,
): Promise<HostStep<StepBatch>> {
  const { graph, embedding } = encoder;
  const tables = tableNames(graph);
  const gradients = graph.outputs.filter((v) => v !== embedding);
  graph.setOutputs(embedding);
  const forwardGraph = graph.clone();
  forwardGraph.dropUnused();
  graph.setOutputs(...gradients);
  const forward = await Session.load(forwardGraph, options, 'the encoder');
  const loss = await Session.load(losses.graph, options, 'the losses');
  const backward = await Session.load(graph, options, "the encoder's gradient");

  const gradientOf = (name: string) => encoder.gradients.get(name);
  const parameters = parametersOf(
    [...start].filter(([name]) => gradientOf(name) || name === 'projection'),
    (name) => !('rows' in (gradientOf(name) ?? {})),
    (name) => tables.has(name),
  );
  const weights: Record<string, Tensor> = Object.fromEntries(start);
  for (const { name, dims, data } of parameters) weights[name] = { dtype: 'float32', dims, data };
  const own = new Map(parameters.map((p) => [p.name, p]));
  // All chunks write their gradients to the same arrays: new ones would pile up until garbage collection.
  const scratch: Record<string, Tensor> = {};
  for (const [name, gradient] of encoder.gradients) {
    const p = own.get(name) as Parameter;
    if ('dense' in gradient)
      scratch[gradient.dense.name] = { dtype: 'float32', dims: p.dims, data: new Float32Array(p.data.length) };
  }
  const width = encoder.width;
  const chunkFeeds = (batch: GroupedBatch, g: number): Record<string, Tensor>[] => [
    weights,
    tokenFeeds('', batch.groups[g]),
    batch.dropout ? { dropout_table: batch.dropout.table, dropout_places: batch.dropout.places[g] } : {},
  ];

  return {
    graph,
    parameters,
    async run(stepBatch, step = 0) {
      const batch = group(stepBatch, step);
      const texts = batch.groups.reduce((n, b) => n + b.rows, 0);
      const embeddings = new Float32Array(texts * width);
      let at = 0;
      for (const [g, b] of batch.groups.entries()) {
        const into = { dtype: 'float32', dims: [b.rows, width], data: slice(embeddings, at, b.rows, width) } as const;
        await forward.run(wantedFeeds(forward.inputs, ...chunkFeeds(batch, g)), { [forward.outputs[0]]: into });
        at += b.rows;
      }

      const all = { texts: { dtype: 'float32', dims: [texts, width], data: embeddings } } as const;
      const results = await loss.run(wantedFeeds(loss.inputs, all, weights, batch.losses));
      const upstream = results[losses.upstream.name].data as Float32Array;
      for (const p of parameters) {
        p.gradient?.fill(0);
        p.rows = p.gradient ? undefined : [];
      }
      if (losses.projection)
        own.get('projection')?.gradient?.set(results[losses.projection.gradient.name].data as Float32Array);

      at = 0;
      for (const [g, b] of batch.groups.entries()) {
        const feed = {
          upstream: { dtype: 'float32', dims: [b.rows, width], data: slice(upstream, at, b.rows, width) },
        };
        const gradients = await backward.run(
          wantedFeeds(backward.inputs, feed as Record<string, Tensor>, ...chunkFeeds(batch, g)),
          scratch,
        );
        at += b.rows;
        const data = (v: Value): Tensor['data'] => gradients[v.name].data;
        for (const [name, gradient] of encoder.gradients) {
          const p = own.get(name) as Parameter;
          if ('dense' in gradient) addTo(p.gradient as Float32Array, data(gradient.dense) as Float32Array);
          else
            addRows(
              p,
              gradient.rows.map((r) => ({
                indices: data(r.indices) as BigInt64Array,
                rows: data(r.rows) as Float32Array,
              })),
            );
        }
      }
      const number = (v: Value): number => Number(results[v.name].data[0]);
      return { loss: number(losses.total), terms: losses.terms.map(number) };
    },
    async release() {
      for (const session of [forward, loss, backward]) await session.release();
    },
  };
}

const slice = (a: Float32Array, row: number, rows: number, width: number): Float32Array =>
  a.subarray(row * width, (row + rows) * width);

function addTo(sum: Float32Array, own: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i] += own[i];
}
