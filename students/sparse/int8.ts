/** @file A sparse student's graph in int8: the word table once a row for look-ups and once a column for products. */
import type { Graph } from '../../engine/graph/ir.ts';
import { encodeGraph } from '../../engine/io/onnx-file.ts';
import { liftOpset } from '../../engine/passes/opset.ts';
import { productsToInt8, tablesToInt8 } from '../export/int8.ts';
import { shortNames, tidy } from '../export/simplify.ts';

/** Scales of rows are written in the form of this opset and later. */
const OLDEST = 13;

/** @param graph ids and mask to weights [batch, V]; stays as it is @returns the bytes of an ONNX file */
export function sparseInt8(graph: Graph): Uint8Array {
  const copy = tidy(graph.clone());
  liftOpset(copy, OLDEST);
  tablesToInt8(copy);
  productsToInt8(copy);
  return encodeGraph(shortNames(copy));
}
