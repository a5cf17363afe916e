/** @file Memory of a forward pass, estimated from the widths of an encoder's weights. */
import type { Graph } from '../graph/ir.ts';

/**
 * Simultaneous vectors per token of the hidden and of the largest width, and attention heads by width: taken from BERT, with a
 * margin.
 */
const [HIDDEN, WIDEST, WIDTH_OF_HEAD] = [8, 3, 32];
/** Used where the graph does not show its widths. */
const USUAL_WIDTH = 768;

/** Approximate bytes per padded token in a forward pass over texts of the given length. */
export function forwardBytes(graph: Graph): (length: number) => number {
  const table = graph.nodes.find((n) => n.op === 'Gather' && n.inputs[1]?.name === 'input_ids')?.inputs[0];
  const hidden = table?.constant?.dims[1] ?? USUAL_WIDTH;
  let widest = hidden;
  for (const v of graph.constants)
    if (v !== table && v.constant?.dims.length === 2 && v.constant.dims.includes(hidden))
      widest = Math.max(widest, ...v.constant.dims.filter((d) => d <= 8 * hidden));
  return bytesOfWidths({ hidden, widest });
}

/** Like forwardBytes, for known widths: of token vectors, and of the widest intermediate value. */
export const bytesOfWidths =
  ({ hidden, widest }: { hidden: number; widest: number }) =>
  (length: number): number =>
    4 * (HIDDEN * hidden + WIDEST * widest + 2 * Math.ceil(hidden / WIDTH_OF_HEAD) * length);

/** Padded tokens per batch: the requested number, or as many as fit. */
export function tokensWithin(wanted: number, memory: number | undefined, bytesAToken: number): number {
  return memory === undefined ? wanted : Math.max(1, Math.min(wanted, Math.floor(memory / bytesAToken)));
}
