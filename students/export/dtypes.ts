/** @file The kinds of numbers that an export keeps weights in, and the files they are found by. */

/** By dtype, the files that transformers.js looks for, the first being the file itself and others its second names. */
export const fileNames = {
  fp32: ['model.onnx'],
  fp16: ['model_fp16.onnx'],
  int8: ['model_quantized.onnx', 'model_int8.onnx'],
  q4: ['model_q4.onnx'],
} as const;
export type ExportDType = keyof typeof fileNames;
/** The file of a student that ends after its first `after` layers. */
export const exitFile = (after: number, dtype: ExportDType = 'fp32'): string =>
  `onnx/${fileNames[dtype][0].replace('model', `model_exit${after}`)}`;
export const exportDTypes = Object.keys(fileNames) as ExportDType[];

/** What `--dtype` takes: the kinds of ONNX file, and the static tower's own. */
export type DTypeName = ExportDType | 'static-int8';
