/** @file One compact ONNX file of a student: which passes make which dtype, in which order. */
import type { Graph } from '../../engine/graph/ir.ts';
import { encodeGraph } from '../../engine/io/onnx-file.ts';
import { liftOpset, lowerOpset } from '../../engine/passes/opset.ts';
import type { Head } from '../../models/modules/head.ts';
import type { ExportDType } from './dtypes.ts';
import { computeHalf, storeHalf } from './half.ts';
import { productsToInt8, tablesToInt8 } from './int8.ts';
import { splitOutliers } from './outliers.ts';
import { sealTexts, writeOutputs } from './outputs.ts';
import { productsToQ4, tablesToQ4 } from './q4.ts';
import { shortNames, tidy } from './simplify.ts';

export interface CompactOptions {
  dtype: ExportDType;
  /** Of the tables of words and positions; as `dtype` by default. */
  tables?: ExportDType;
  /** fp16: whether arithmetic is done in halves too, or only weights are stored in them. */
  half?: 'compute' | 'storage';
  /** What makes one vector of token vectors. */
  head: Head;
  /** Width of the token vectors. */
  width: number;
  dimensions?: number;
  /** Id of the special token that ends every text; given, it is put back where a text was cut off without it. */
  separator?: number;
  /** Tokens that the model has positions for. */
  positions?: number;
  /** Opset of the file; as the graph's by default. */
  opset?: number;
}

const OLDEST = 13;

/** @param graph stays as it is @returns the bytes of an ONNX file; the same graph and options give the same bytes */
export async function compact(graph: Graph, options: CompactOptions): Promise<Uint8Array> {
  const { dtype, tables = dtype } = options;
  const copy = tidy(graph.clone());
  // Scales of rows are written in the form of opset 13 and later.
  liftOpset(copy, OLDEST);
  if (dtype === 'int8') await splitOutliers(copy, options.positions);
  if (tables === 'int8') tablesToInt8(copy);
  else if (tables === 'q4') tablesToQ4(copy);
  if (dtype === 'int8') productsToInt8(copy);
  else if (dtype === 'q4') productsToQ4(copy);
  if (dtype === 'fp16' && options.half !== 'storage') computeHalf(copy);
  else if (dtype !== 'fp32') storeHalf(copy);
  writeOutputs(copy, options);
  if (options.separator !== undefined) sealTexts(copy, options.separator);
  if (options.opset !== undefined) lowerOpset(liftOpset(copy, options.opset), options.opset);
  // Whole weights keep their names, for whoever reads them to go on training.
  return encodeGraph(dtype === 'fp32' || dtype === 'fp16' ? copy : shortNames(copy));
}
