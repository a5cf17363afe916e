/** @file One compact ONNX file of a student: which passes make which dtype, in which order. */
import type { Pooling } from '../../engine/expressions/pooling.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import { encodeGraph } from '../../engine/graph/proto.ts';
import { computeHalf, storeHalf } from './half.ts';
import { productsToInt8, tablesToInt8 } from './int8.ts';
import { sealTexts, writeOutputs } from './outputs.ts';
import { productsToQ4, tablesToQ4 } from './q4.ts';
import { shortNames, tidy } from './tidy.ts';

/** By dtype, the files that transformers.js looks for, the first being the file itself and others its second names. */
export const fileNames = {
  fp32: ['model.onnx'],
  fp16: ['model_fp16.onnx'],
  int8: ['model_quantized.onnx', 'model_int8.onnx'],
  q4: ['model_q4.onnx'],
} as const;
export type ExportDType = keyof typeof fileNames;
export const exportDTypes = Object.keys(fileNames) as ExportDType[];

export interface CompactOptions {
  dtype: ExportDType;
  /** Of the tables of words and positions; as `dtype` by default. */
  tables?: ExportDType;
  /** fp16: whether arithmetic is done in halves too, or only weights are stored in them. */
  half?: 'compute' | 'storage';
  pooling: Pooling;
  normalize: boolean;
  width: number;
  dimensions?: number;
  /** Id of the special token that ends every text; given, it is put back where a text was cut off without it. */
  separator?: number;
}

/** @param graph stays as it is @returns the bytes of an ONNX file; the same graph and options give the same bytes */
export function compact(graph: Graph, options: CompactOptions): Uint8Array {
  const { dtype, tables = dtype } = options;
  const copy = tidy(graph.clone());
  if (tables === 'int8') tablesToInt8(copy);
  else if (tables === 'q4') tablesToQ4(copy);
  if (dtype === 'int8') productsToInt8(copy);
  else if (dtype === 'q4') productsToQ4(copy);
  if (dtype === 'fp16' && options.half !== 'storage') computeHalf(copy);
  else if (dtype !== 'fp32') storeHalf(copy);
  writeOutputs(copy, options);
  if (options.separator !== undefined) sealTexts(copy, options.separator);
  return encodeGraph(dtype === 'fp32' ? copy : shortNames(copy));
}
