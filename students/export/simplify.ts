/** @file Makes a graph smaller without changing what it computes: constants inline, equal work done once, short names. */
import { Buffer } from 'node:buffer';
import { canonicalJson } from '../../common/files.ts';
import { check } from '../../engine/graph/checker.ts';
import { inlineConstants } from '../../engine/graph/constants.ts';
import type { Attribute, Graph, Node, Value } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { normalize } from '../../engine/passes/normalize.ts';

/** Below this opset axes are attributes and several operators differ; such graphs are rewritten to the canonical one. */
const OLDEST_KEPT_OPSET = 14;

/**
 * Readies a loaded graph for the passes of this folder, in place. Its opset stays from 14 on, so that runtimes as old as
 * the exporter's go on reading it.
 */
export function tidy(graph: Graph, file = 'the model'): Graph {
  if (graph.opset < OLDEST_KEPT_OPSET) normalize(graph, file);
  else inlineConstants(graph);
  foldTransposes(graph);
  shareEqual(graph);
  graph.prune();
  return check(graph);
}

/** A stored matrix that is turned before use is stored turned: the passes look for products with stored weights. */
function foldTransposes(graph: Graph): void {
  for (const node of graph.nodes) {
    const [v] = node.inputs;
    const turns = node.op === 'Transpose' && (node.ints('perm') ?? [1, 0]).join() === '1,0';
    if (!turns || v?.constant?.dtype !== 'float32' || v.constant.dims.length !== 2) continue;
    const turned = transposed(v.constant as Tensor<'float32'>);
    graph.replace(node.outputs[0], graph.constant(turned, `${v.name}_transposed`));
  }
}

export function transposed(t: Tensor<'float32'>): Tensor<'float32'> {
  const [rows, columns] = t.dims;
  const data = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) data[j * rows + i] = t.data[i * columns + j];
  return { dtype: 'float32', dims: [columns, rows], data };
}

const bytesOf = (t: Tensor): string =>
  `${t.dtype}[${t.dims}]${Buffer.from(t.data.buffer, t.data.byteOffset, t.data.byteLength).toString('base64')}`;

/** Constants longer than this are weights, which no exporter stores twice. */
const LONGEST_SHARED_CONSTANT = 64;

/** Merges equal small constants, and nodes that do the same to the same: exporters compute each shape again and again. */
function shareEqual(graph: Graph): void {
  const constants = new Map<string, Value>();
  for (const v of graph.constants) {
    const t = v.constant as Tensor;
    if (t.data.length > LONGEST_SHARED_CONSTANT || graph.outputs.includes(v)) continue;
    const key = bytesOf(t);
    const first = constants.get(key);
    if (first) graph.replace(v, first);
    else constants.set(key, v);
  }
  const numbers = new Map<Value | null, number>();
  const numberOf = (v: Value | null): number => {
    let n = numbers.get(v);
    if (n === undefined) {
      n = numbers.size;
      numbers.set(v, n);
    }
    return n;
  };
  const attribute = (a: Attribute): unknown => (a.kind === 'tensor' ? bytesOf(a.value) : [a.kind, a.value]);
  const made = new Map<string, Node>();
  for (const node of graph.nodes) {
    if (node.op.startsWith('Random') || node.outputs.some((v) => graph.outputs.includes(v))) continue;
    const attributes = Object.fromEntries([...node.attributes].map(([name, a]) => [name, attribute(a)]));
    const key = `${node.domain}.${node.op}/${node.outputs.length}(${node.inputs.map(numberOf)})${canonicalJson(attributes)}`;
    const first = made.get(key);
    if (!first) made.set(key, node);
    else for (const [i, v] of node.outputs.entries()) graph.replace(v, first.outputs[i]);
  }
}

/** Drops nodes' names and numbers the values and constants: of a small quantised model a good part is names. */
export function shortNames(graph: Graph): Graph {
  const kept = new Set([...graph.inputs, ...graph.outputs]);
  const taken = new Set([...kept].map((v) => v.name));
  let n = 0;
  const rename = (v: Value): void => {
    if (!v.name || kept.has(v)) return;
    do v.name = `v${n++}`;
    while (taken.has(v.name));
  };
  for (const v of graph.constants) rename(v);
  for (const node of graph.nodes) {
    node.name = '';
    for (const v of node.outputs) rename(v);
  }
  return graph;
}
