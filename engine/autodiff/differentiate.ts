/** @file Reverse-mode differentiation: appends the gradient nodes, from the loss back to the parameters, to the same graph. */

import { InputError } from '../../common/errors.ts';
import { constant, Expr } from '../expressions/expr.ts';
import { afterPass } from '../graph/checker.ts';
import type { Dim, Graph, Node, Value } from '../graph/ir.ts';
import { isFloat } from '../graph/tensor.ts';
import { type Context, type Forms, fuses } from './rule.ts';
import { broadcasting, constantAlmostEverywhere, rules } from './rules.ts';
import { matmulGradientDims } from './rules-product.ts';
import {
  multipliedRows,
  type Once,
  onceOf,
  reducedRows,
  rowsByText,
  rowsInParts,
  type Shapes,
  type SumRows,
  unbroadcast,
} from './shapes.ts';

/**
 * A gradient as a tensor of the parameter's shape, or, for tables, as rows: row i of `rows` belongs to table row `indices[i]`.
 */
export type Gradient = { dense: Value } | { rows: { indices: Value; rows: Value }[] };

/** Form of the gradients: which tables get row gradients, and where the graph runs. */
export interface DifferentiateOptions {
  /** Tables whose gradient is returned as rows if only Gather along axis 0 reads them. */
  asRows?: ReadonlySet<Value>;
  /** The forms that are fast where the graph will run; plain operators by default. */
  forms?: Forms;
}

/** Sums over rows by the forms of the gradients. */
function rowSums(forms: Forms, graph: Graph, shapes: Shapes, once: Once): SumRows {
  if (forms === 'cpu') return multipliedRows(once);
  if (forms === 'webgpu') return rowsInParts(once);
  if (forms !== 'cuda-half') return reducedRows;
  // Positions that NonZero chooses may be none: a batch of products over no rows is not everywhere 0.
  const chosen = new Set<Dim | undefined>();
  for (const { op, outputs } of graph.nodes) if (op === 'NonZero') chosen.add(shapes.get(outputs[0])?.dims[1]);
  const byText = rowsByText(once);
  return (x, dims) => (dims.some((d) => chosen.has(d)) ? reducedRows : byText)(x, dims);
}

/**
 * Appends to a graph the nodes that compute d loss / d parameter for each parameter.
 *
 * @param graph normalised (see graph/normalize.ts)
 * @param loss a scalar
 * @param parameters graph inputs or constants of float type
 * @param shapes type and dimensions of every value of the graph
 * @returns a gradient for each parameter that the loss depends on
 * @throws InputError where an operator between parameters and loss has no rule
 */
export function differentiate(
  graph: Graph,
  loss: Value,
  parameters: readonly Value[],
  shapes: Shapes,
  options: DifferentiateOptions = {},
): Map<Value, Gradient> {
  const forward = [...graph.nodes];
  const active = activeValues(forward, parameters, shapes);
  const wanted = new Set(parameters);
  const flowing = new Map<Value, Expr[]>([[loss, [constant(graph, graph.float, [], [1])]]]);
  const rowsOf = new Map<Value, { indices: Value; rows: Value }[]>();
  const expr = (v: Value): Expr => new Expr(graph, v);
  const { forms = 'plain' } = options;
  const once = onceOf();
  const sumRows = rowSums(forms, graph, shapes, once);
  const total = (v: Value): Expr | null => {
    const parts = flowing.get(v);
    if (!parts) return null;
    const [first, ...others] = parts;
    // More than two: one pass where the operator takes them all.
    const sum = fuses(forms) && others.length > 1 ? first.op('Sum', others) : parts.reduce((a, b) => a.add(b));
    flowing.set(v, [sum]);
    return sum;
  };

  for (let i = forward.length - 1; i >= 0; i--) {
    const node = forward[i];
    const dys = node.outputs.map((v) => (v.name && active.has(v) ? total(v) : null));
    if (!dys.some(Boolean) || !node.inputs.some((v) => v && active.has(v))) continue;
    const [table, indices] = node.inputs as [Value, Value];
    if (isRowTable(node, options.asRows, shapes)) {
      const width = shapes.get(table)?.dims[1] as number;
      const rows = { indices: expr(indices).reshape(-1).value, rows: (dys[0] as Expr).reshape(-1, width).value };
      rowsOf.set(table, [...(rowsOf.get(table) ?? []), rows]);
      continue;
    }
    const gradients = ruleOf(node)(context(graph, node, dys, active, shapes, { sumRows, forms, once }));
    node.inputs.forEach((input, k) => {
      const gradient = gradients[k];
      if (!input || !gradient || !active.has(input)) return;
      const [from, to] = [gradientDims(node, k, shapes), dimsOf(shapes, input)];
      const own = unbroadcast(gradient, from, to, sumRows);
      const parts = flowing.get(input);
      if (parts) parts.push(own);
      else flowing.set(input, [own]);
    });
    // The gradient is complete here: further contributions could only come from nodes before the value's producer.
    for (const v of node.outputs) if (!wanted.has(v)) flowing.delete(v);
  }

  const result = new Map<Value, Gradient>();
  for (const p of parameters) {
    const dense = total(p);
    const rows = rowsOf.get(p);
    if (dense && rows) throw new Error(`'${p.name}' has both a row gradient and a dense gradient`);
    if (rows) result.set(p, { rows });
    else if (dense) result.set(p, { dense: dense.value });
  }
  afterPass(graph);
  return result;
}

function ruleOf(node: Node): (typeof rules)[string] {
  const rule = node.domain === '' || node.domain === 'com.microsoft' ? rules[node.op] : undefined;
  if (!rule || !Object.hasOwn(rules, node.op))
    throw new InputError({
      code: 'autodiff.no-rule',
      subject: `operator ${node.title} has no gradient rule`,
      remedy: `add a line '${node.op}' to the table in engine/autodiff/rules.ts, or export the model without it`,
    });
  return rule;
}

/** Operators between the parameters and the outputs that have no rule, e.g. for a check before training. */
export function withoutRule(graph: Graph, parameters: readonly Value[]): Node[] {
  const reached = new Set(parameters);
  const missing: Node[] = [];
  for (const node of graph.nodes) {
    if (constantAlmostEverywhere.has(node.op) || !node.inputs.some((v) => v && reached.has(v))) continue;
    for (const v of node.outputs) reached.add(v);
    if (!Object.hasOwn(rules, node.op)) missing.push(node);
  }
  return missing;
}

/** Float values that depend on a parameter. */
function activeValues(nodes: readonly Node[], parameters: readonly Value[], shapes: Shapes): Set<Value> {
  const active = new Set(parameters);
  for (const node of nodes) {
    if (constantAlmostEverywhere.has(node.op) || !node.inputs.some((v) => v && active.has(v))) continue;
    for (const v of node.outputs) if (v.name && !v.detached && isFloat(shapes.get(v)?.dtype)) active.add(v);
  }
  return active;
}

function isRowTable(node: Node, asRows: ReadonlySet<Value> | undefined, shapes: Shapes): boolean {
  const table = node.inputs[0];
  if (node.op !== 'Gather' || !table || !asRows?.has(table) || node.int('axis', 0) !== 0) return false;
  if (shapes.get(table)?.dims.length !== 2) return false;
  return (
    [...table.readers].every((n) => n.op !== 'Gather' || n.inputs[0] === table) &&
    [...table.readers].filter((n) => n.op !== 'Gather').length === 0
  );
}

const dimsOf = (shapes: Shapes, v: Value) => {
  const shape = shapes.get(v);
  if (!shape) throw new Error(`the shape is not known of '${v.name}'`);
  return shape.dims;
};

/** The shape of a rule's gradient for input k. */
function gradientDims(node: Node, k: number, shapes: Shapes) {
  const input = node.inputs[k] as Value;
  const output = dimsOf(shapes, node.outputs[0]);
  if (Object.hasOwn(broadcasting, node.op)) return output;
  if (node.op === 'MatMul')
    return matmulGradientDims(
      k,
      dimsOf(shapes, node.inputs[0] as Value),
      dimsOf(shapes, node.inputs[1] as Value),
      output,
    );
  if (node.op === 'Gemm' && k === 2) return output;
  return dimsOf(shapes, input);
}

function context(
  graph: Graph,
  node: Node,
  dys: (Expr | null)[],
  active: Set<Value>,
  shapes: Shapes,
  forms: Pick<Context, 'sumRows' | 'forms' | 'once'>,
): Context {
  const expr = (v: Value): Expr => new Expr(graph, v);
  const x = node.inputs.map((v) => (v ? expr(v) : undefined)) as Expr[];
  return {
    node,
    x,
    y: node.outputs.map(expr),
    dy: dys[0] as Expr,
    dys,
    dims: (e) => dimsOf(shapes, e.value),
    needsGradient: (i) => Boolean(node.inputs[i] && active.has(node.inputs[i] as Value)),
    constant: (i) => {
      const tensor = node.inputs[i]?.constant;
      return tensor ? Array.from(tensor.data as ArrayLike<number | bigint>, Number) : undefined;
    },
    outputs: (count) => graph.extendOutputs(node, count).map(expr),
    ...forms,
  };
}
