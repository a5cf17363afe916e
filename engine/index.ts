/**
 * @file Reverse-mode differentiation over ONNX graphs, as a separate entry point: `import { differentiate } from
 * 'onnx-distill/engine'`.
 */

export { type DifferentiateOptions, type Gradient, withoutRule } from './autodiff/differentiate.ts';
export type { Context, Rule } from './autodiff/rule.ts';
export { rules } from './autodiff/rules.ts';
export type { Shape, Shapes } from './autodiff/shapes.ts';
export { type DifferentiatedModel, differentiate } from './differentiate.ts';
export { constant, Expr, type Operand } from './expressions/expr.ts';
export { type Pooling, pool, poolings } from './expressions/pooling.ts';
export { check } from './graph/checker.ts';
export { type Attribute, type Dim, float, Graph, Node, Value } from './graph/ir.ts';
export { castFloat, type DType, type Tensor, tensor } from './graph/tensor.ts';
export { encodeGraph, loadGraph, parseGraph } from './io/onnx-file.ts';
export { encodeSafetensors, parseSafetensors, readSafetensors } from './io/safetensors.ts';
export { fuse } from './passes/fuse.ts';
export { findLayers, keepLayers, type Layer } from './passes/layers.ts';
export { liftConstants, normalize } from './passes/normalize.ts';
export { trainableConstants } from './passes/trainable-parameters.ts';
export { probe } from './runtime/infer-shapes.ts';
export { type Feeds, Session, type SessionOptions } from './runtime/session.ts';
