/** @file Scores of many pairs over frozen states: documents are projected in blocks by ONNX Runtime, and read once each. */
import type { RunControl } from '../../common/progress.ts';
import { Expr } from '../../engine/expressions/expr.ts';
import { Graph } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { Session } from '../../engine/runtime/session.ts';
import type { Rows } from '../../math/numbers.ts';
import { LATE, type LateModel } from './late-model.ts';
import type { TokenStates } from './token-states.ts';

/** Documents whose token vectors are in memory at a time. */
const BLOCK = 1024;

/** A pair by its positions in the tables of queries and documents. */
export interface LatePairs {
  queries: Int32Array;
  documents: Int32Array;
}

/**
 * @param stored changes the token vectors of documents before they are compared: an encoding, a pooling; none by default
 * @returns [pairs] scores
 */
export async function scoreLatePairs(
  model: LateModel,
  states: { queries: TokenStates; documents: TokenStates },
  pairs: LatePairs,
  watch: RunControl = {},
  stored: (tokens: Rows, document: number) => Rows = (tokens) => tokens,
): Promise<Float32Array> {
  const project = await projector(model);
  const scores = new Float32Array(pairs.queries.length);
  const queries = new Map<number, { tokens: Rows; vector: Float32Array }>();
  const order = Int32Array.from(scores.keys()).sort((a, b) => pairs.documents[a] - pairs.documents[b] || a - b);
  try {
    for (let at = 0; at < order.length; ) {
      watch.signal?.throwIfAborted();
      const block: number[] = [];
      let end = at;
      for (; end < order.length; end++) {
        const document = pairs.documents[order[end]];
        if (block.at(-1) === document) continue;
        if (block.length === BLOCK) break;
        block.push(document);
      }
      const tokens = await project(block, states.documents);
      const row = new Map(block.map((d, i) => [d, i]));
      const kept = tokens.map((t, i) => stored(t, block[i]));
      let vector: { of: number; data: Float32Array } = { of: -1, data: new Float32Array(0) };
      for (; at < end; at++) {
        const pair = order[at];
        const [q, d] = [pairs.queries[pair], pairs.documents[pair]];
        let query = queries.get(q);
        if (!query) {
          const { width } = states.queries;
          query = {
            tokens: model.query({ dimensions: width, data: states.queries.read(q) }),
            vector: states.queries.vector(q),
          };
          queries.set(q, query);
        }
        if (vector.of !== d) vector = { of: d, data: states.documents.vector(d) };
        let cosine = 0;
        for (let k = 0; k < query.vector.length; k++) cosine += query.vector[k] * vector.data[k];
        scores[pair] = model.score(query.tokens, kept[row.get(d) as number], cosine);
      }
      watch.onProgress?.({ stage: 're-rank', done: at, total: order.length, unit: 'pairs' });
    }
  } finally {
    await project.release();
  }
  return scores;
}

/** Token vectors of documents from their states, many in one product. */
async function projector(model: LateModel) {
  const map = model.weights.get(LATE.projection) as Tensor<'float32'>;
  const [width, dimensions] = map.dims;
  const graph = new Graph(18);
  const states = new Expr(graph, graph.input('states', 'float16', ['tokens', width])).cast('float32');
  const out = states.matmul(new Expr(graph, graph.constant(map, 'map'))).l2Normalize();
  graph.setOutputs(out.value);
  const session = await Session.load(graph, {}, 'the projection of token states');
  const run = async (texts: readonly number[], of: TokenStates): Promise<Rows[]> => {
    const rows = texts.map((t) => of.halves(t).subarray(0, model.settings.documentTokens * width));
    const data = new Uint16Array(rows.reduce((n, r) => n + r.length, 0));
    let at = 0;
    for (const row of rows) {
      data.set(row, at);
      at += row.length;
    }
    const found = await session.run({ states: { dtype: 'float16', dims: [data.length / width, width], data } });
    const vectors = found[session.outputs[0]].data as Float32Array;
    at = 0;
    return rows.map((row) => {
      const size = (row.length / width) * dimensions;
      at += size;
      return { dimensions, data: vectors.subarray(at - size, at) };
    });
  };
  return Object.assign(run, { release: () => session.release() });
}
