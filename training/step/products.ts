/** @file The products of an encoder by its trained matrices: what optimizers that solve local problems read besides gradients. */

import type { Shapes } from '../../engine/autodiff/shapes.ts';
import { concatenated, Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Node, Value } from '../../engine/graph/ir.ts';

/** How a matrix stands in its products. */
export interface ProductForm {
  /** Whether it is [outputs, inputs], as torch.nn.Linear keeps it, and not [inputs, outputs]. */
  readonly turned: boolean;
  /** The activation that follows: an operator of ONNX. */
  readonly link?: { readonly op: string; readonly approximate?: string };
}

/** The values of a product x W + b of tokens. */
export interface Product extends ProductForm {
  /** [tokens, inputs] what is multiplied; rows of padding are 0. */
  x: Value;
  /** [tokens, outputs] x W + b, where an activation follows. */
  before?: Value;
}

/** Activations whose matching loss is used; all others count as the identity. */
const activations = new Set(['Gelu', 'Relu', 'Tanh']);

/**
 * Of each matrix that products with tokens read, and nothing else; one that several products read has the rows of all, which is the same
 * local problem. Adds nodes and outputs to the graph.
 *
 * @param graph normalised, before it is differentiated
 * @param mask [rows, length]
 */
export function productsOf(
  graph: Graph,
  weights: readonly { name: string; value: Value }[],
  mask: Value | undefined,
  shapes: Shapes,
): Map<string, Product> {
  const shown = mask?.readers.size ? new Expr(graph, mask).float().unsqueeze(-1) : undefined;
  const flattened = new Map<Value, Expr>();
  const flat = (v: Value): Expr | undefined => {
    const dims = shapes.get(v)?.dims ?? [];
    if (dims.length !== 3 || typeof dims[2] !== 'number') return undefined;
    const x = new Expr(graph, v);
    const made = flattened.get(v) ?? (shown ? x.mul(shown) : x).reshape(-1, dims[2]);
    flattened.set(v, made);
    return made;
  };
  const found = new Map<string, Product>();
  for (const { name, value } of weights) {
    if (value.dims?.length !== 2) continue;
    const reads = [...value.readers].flatMap((n) =>
      n.op === 'Transpose'
        ? [...n.outputs[0].readers].map((node) => ({ node, turned: true }))
        : [{ node: n, turned: false }],
    );
    if (!reads.length || reads.some(({ node, turned }) => !multiplies(node, turned ? undefined : value))) continue;
    const forms = reads.map(({ node, turned }) => ({ turned, ...activationBehind(node.outputs[0]) }));
    const [{ turned, link }] = forms;
    if (forms.some((f) => f.turned !== turned || JSON.stringify(f.link) !== JSON.stringify(link))) continue;
    const inputs = reads.map(({ node }) => flat(node.inputs[0] as Value));
    const outputs = link ? forms.map((f) => flat(f.before as Value)) : [];
    if ([...inputs, ...outputs].some((e) => !e)) continue;
    const joined = (all: readonly (Expr | undefined)[]): Value => concatenated(all as Expr[], 0).value;
    found.set(name, { turned, x: joined(inputs), ...(link && { link, before: joined(outputs) }) });
  }
  for (const { x, before } of found.values())
    for (const v of before ? [x, before] : [x]) if (!graph.outputs.includes(v)) graph.output(v);
  return found;
}

/** Whether a node multiplies tokens by a matrix on its right. */
const multiplies = (node: Node, weight: Value | undefined): boolean =>
  node.op === 'MatMul' &&
  !!node.inputs[0]?.producer &&
  (weight ? node.inputs[1] === weight && node.inputs[0] !== weight : true);

/** What is applied to a product, its bias added. */
function activationBehind(product: Value): { link?: ProductForm['link']; before?: Value } {
  const only = (v: Value): Node | undefined => (v.readers.size === 1 ? [...v.readers][0] : undefined);
  const next = only(product);
  const before = next?.op === 'Add' && next.inputs.some((v) => v && !v.producer) ? next.outputs[0] : product;
  const node = only(before);
  if (!node || !activations.has(node.op)) return {};
  const approximate = node.string('approximate', 'none');
  return { before, link: { op: node.op, ...(approximate !== 'none' && { approximate }) } };
}
