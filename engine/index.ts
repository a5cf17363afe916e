/** @file Reverse-mode differentiation over ONNX graphs, by itself: `import { differentiate } from 'onnx-distill/engine'`. */
export { type DifferentiateOptions, type Gradient, withoutRule } from './autodiff/differentiate.ts';
export type { Context, Rule } from './autodiff/rule.ts';
export { rules } from './autodiff/rules.ts';
export type { Shape, Shapes } from './autodiff/shapes.ts';
export { type DifferentiatedModel, differentiate } from './differentiate.ts';
export { constant, Expr, type Operand } from './expressions/expr.ts';
export { type Pooling, pool, poolings } from './expressions/pooling.ts';
export { check } from './graph/checker.ts';
export { fuse } from './graph/fuse.ts';
export { type Attribute, type Dim, float, Graph, Node, Value } from './graph/ir.ts';
export { findLayers, keepLayers, type Layer } from './graph/layers.ts';
export { liftConstants, normalize } from './graph/normalize.ts';
export { trainableConstants } from './graph/parameters.ts';
export { encodeGraph, loadGraph, parseGraph } from './graph/proto.ts';
export { encodeSafetensors, parseSafetensors, readSafetensors } from './graph/safetensors.ts';
export { castFloat, type DType, type Tensor, tensor } from './graph/tensor.ts';
export { probe } from './runtime/probe.ts';
export { type Feeds, Session, type SessionOptions } from './runtime/session.ts';
