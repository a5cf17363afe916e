/** @file What a pass forward takes, from the widths of an encoder's weights. */
import type { Graph } from '../graph/ir.ts';

/** Vectors of the hidden and of the widest width that a token has at once, and heads of attention by width: read off BERT, generous. */
const [HIDDEN, WIDEST, WIDTH_OF_HEAD] = [8, 3, 32];
/** Where the graph does not say how wide it is. */
const USUAL_WIDTH = 768;

/** About how many bytes a padded token takes in a pass forward, in texts of so many tokens. */
export function forwardBytes(graph: Graph): (length: number) => number {
  const table = graph.nodes.find((n) => n.op === 'Gather' && n.inputs[1]?.name === 'input_ids')?.inputs[0];
  const hidden = table?.constant?.dims[1] ?? USUAL_WIDTH;
  let widest = hidden;
  for (const v of graph.constants)
    if (v !== table && v.constant?.dims.length === 2 && v.constant.dims.includes(hidden))
      widest = Math.max(widest, ...v.constant.dims.filter((d) => d <= 8 * hidden));
  return bytesOfWidths({ hidden, widest });
}

/** As forwardBytes, of widths that are known: of token vectors, and of the widest of the values between. */
export const bytesOfWidths =
  ({ hidden, widest }: { hidden: number; widest: number }) =>
  (length: number): number =>
    4 * (HIDDEN * hidden + WIDEST * widest + 2 * Math.ceil(hidden / WIDTH_OF_HEAD) * length);

/** Padded tokens a batch: as many as are wanted, or as fit. */
export function tokensWithin(wanted: number, memory: number | undefined, bytesAToken: number): number {
  return memory === undefined ? wanted : Math.max(1, Math.min(wanted, Math.floor(memory / bytesAToken)));
}
