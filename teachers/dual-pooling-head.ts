/** @file A head for cross-encoders whose vectors account for the score: dual pooling in place of the first token's logit. */
import { InputError } from '../common/errors.ts';
import type { TextTokenizer } from '../data/tokenizer.ts';
import { constant, Expr } from '../engine/expressions/expr.ts';
import { pool } from '../engine/expressions/pooling.ts';
import type { Graph, Value } from '../engine/graph/ir.ts';
import { findLayers } from '../engine/passes/layers.ts';

/** A cosine c gives the logit 20 c - 10, which spans the logits that cross-encoders give relevant and other documents. */
const [SCALE, SHIFT] = [20, -10];

/**
 * Replaces what a model makes of its token vectors H [B, L, D] by dual pooling, special tokens left out:
 *
 *     logit(q, d) = 20 cos(mean of H over the query's tokens, mean of H over the document's) - 10
 *
 * The paper scores by the dot product; here both are scaled to unit length, as students' vectors are, so that a student can be
 * where they are. The model has the outputs `last_hidden_state` [B, L, D] and `logits` [B, 1]. Its scores are meaningless
 * until it is trained with this head.
 *
 * @param tokenizer says which tokens it puts around the two texts, by which the segments are told apart
 * @throws InputError where the model has no layers to read
 * @source Kim, Rawat, Zaheer et al. 2023 (arXiv 2301.12005)
 */
export function appendDualHead(graph: Graph, tokenizer: TextTokenizer, file = 'the cross-encoder'): void {
  const ids = graph.inputs.find((v) => v.name === 'input_ids');
  const mask = graph.inputs.find((v) => v.name === 'attention_mask');
  if (!ids || !mask)
    throw new InputError({
      code: 'teacher.inputs',
      subject: `${file} has the inputs ${graph.inputs.map((v) => v.name).join(', ')}`,
      expected: 'input_ids and attention_mask',
      remedy: 'export it with both',
    });
  const hidden = hiddenStates(graph, file);
  const { query, document } = segments(new Expr(graph, ids), new Expr(graph, mask), tokenizer);
  const [q, d] = [query, document].map((segment) => pool(new Expr(graph, hidden), segment, 'mean').l2Normalize()); // [B, D]
  const logits = q.mul(d).sum([-1], true).mul(SCALE).add(SHIFT); // [B, 1]
  logits.value.dtype = 'float32';
  logits.value.dims = ['batch', 1];
  graph.setOutputs(logits.value, hidden);
  graph.prune();
  // The head before is gone, and its names with it.
  logits.value.name = 'logits';
  hidden.name = 'last_hidden_state';
}

/**
 * The token vectors of a model's last layer: the output that says so, an encoder's first, or where a cross-encoder's last layer
 * ends.
 * @throws InputError where it has one layer and does not say where that ends
 */
export function hiddenStates(graph: Graph, file: string): Value {
  const logits = graph.outputs.find((v) => v.name === 'logits');
  const stated = graph.outputs.find((v) => v.name === 'last_hidden_state') ?? (logits ? undefined : graph.outputs[0]);
  if (stated) return stated;
  graph.setOutputs(logits as Value);
  const layers = findLayers(graph);
  // The distance between two layers shows where the last one ends before the classifier.
  if (layers.length === 1)
    throw new InputError({
      code: 'layers.one',
      subject: `${file} has one layer and does not say where it ends`,
      remedy: "export it with the outputs 'last_hidden_state' and 'logits'",
    });
  return layers[layers.length - 1].output;
}

/**
 * [B, L] int64 masks of the two texts' tokens, which are between runs of special tokens. Where there is no query, the
 * document is taken for it and the document's mask is empty.
 */
function segments(ids: Expr, mask: Expr, tokenizer: TextTokenizer): { query: Expr; document: Expr } {
  const { graph } = ids;
  const around = [...new Set(tokenizer.encodePair('', '').ids)];
  const special = around.map((id) => ids.equal(constant(graph, 'int64', [], [id])).float()).reduce((a, b) => a.add(b)); // [B, L]
  const first = special.slice(0, 1, 1);
  const before = first.sub(first).concat([special.slice(0, -1, 1)], 1);
  const starts = special.mul(before.rsub(1)); // 1 where a run of special tokens begins
  const runs = starts.op('CumSum', [constant(graph, 'int64', [], [1])]);
  const begins = Number(around.includes(tokenizer.encodePair('a', 'a').ids[0]));
  const text = special.rsub(1).mul(mask.float());
  const segment = (run: number): Expr => runs.equal(run).float().mul(text).cast('int64');
  return { query: segment(begins), document: segment(begins + 1) };
}
