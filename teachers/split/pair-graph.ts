/** @file A split cross-encoder as one graph over rows of pairs, whose gradients train it: what serving computes in two. */
import { InputError } from '../../common/errors.ts';
import { constant, Expr } from '../../engine/expressions/expr.ts';
import { Graph, type Value } from '../../engine/graph/ir.ts';
import { cutSegments, PREVIOUS } from '../../engine/passes/segments.ts';
import { GAP } from './split-texts.ts';

const INPUTS = ['input_ids', 'attention_mask', 'token_type_ids'];

/**
 * The layers below the cut twice with the same weights, over the query's columns and over the document's, and those above it over
 * both. Its inputs are rows as `SplitTexts.row` makes them, padded behind; weights have the model's names.
 *
 * @param model with the output `logits`
 * @param width columns of the query, `documentStart` or more
 * @throws InputError where the model has other inputs than ids, mask and types
 */
export function pairGraph(
  model: Graph,
  { below, documentStart, width }: { below: number; documentStart: number; width: number },
): Graph {
  const other = model.inputs.find((v) => !INPUTS.includes(v.name) || v.dtype !== 'int64');
  if (other)
    throw new InputError({
      code: 'split.model',
      subject: `the cross-encoder has an input '${other.name}' of type ${other.dtype}`,
      expected: `${INPUTS.join(', ')} of int64`,
      remedy: 'export the model with these',
    });
  const [lower, upper] = cutSegments(model, [below]);
  const graph = new Graph(model.opset);
  const [ids, given, typed] = INPUTS.map((name) => new Expr(graph, graph.input(name, 'int64', ['batch', 'sequence'])));
  const one = constant(graph, 'int64', [], [1]);
  const shown = one.sub(typed.equal(constant(graph, 'int64', [], [GAP])).cast('int64'));
  const [mask, types] = [given.mul(shown), typed.mul(shown)];

  const weights = new Map<string, Value>();
  const shared = (v: Value): Value => {
    const known = weights.get(v.name) ?? graph.constant(v.constant as NonNullable<typeof v.constant>, v.name);
    weights.set(v.name, known);
    return known;
  };
  const embedded = ({ graph: part }: { graph: Graph }, prefix: string, feeds: Readonly<Record<string, Expr>>): Expr => {
    const map = graph.embed(part, (v) => (v.constant ? shared(v) : feeds[v.name]?.value), `${prefix}/`);
    return new Expr(graph, map.get(part.outputs[0]) as Value);
  };
  const columns = (x: Expr, from: number, to = Number.MAX_SAFE_INTEGER): Expr => x.slice(from, to, 1);
  const query = embedded(lower, 'query', {
    input_ids: columns(ids, 0, width),
    attention_mask: columns(mask, 0, width),
    token_type_ids: columns(types, 0, width),
  });
  // The columns before a document give it its positions and are hidden. A row without one, which fills up a batch, shows them all.
  const from = width - documentStart;
  const none = one.sub(columns(types, width, width + 1));
  const document = embedded(lower, 'document', {
    input_ids: columns(ids, from),
    attention_mask: columns(mask, from).mul(columns(types, from)).add(none),
    token_type_ids: columns(types, from),
  });
  const previous = query.concat([columns(document, documentStart)], 1);
  const logits = embedded(upper, 'both', {
    [PREVIOUS]: previous,
    input_ids: ids,
    attention_mask: mask,
    token_type_ids: types,
  });
  graph.output(logits.value, 'logits');
  return graph;
}
