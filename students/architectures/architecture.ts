/** @file What an architecture is: a rewrite of the layers of an encoder, and what losses may read of it. */
import type { z } from 'zod';
import { Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../engine/graph/tensor.ts';
import type { Layer } from '../../engine/passes/layers.ts';
import type { Random } from '../../math/random.ts';

/** What a rewrite is given of one layer. */
export interface Place {
  graph: Graph;
  layer: Layer;
  /** Number of the layer among those of the graph, from 0. */
  number: number;
  /** [B, L] int64, 1 for a token and 0 for padding. */
  mask: Expr;
  /** Dimensions of a value of the graph as it was before any rewrite; a name where a dimension varies. */
  dims(value: Value): readonly (number | string)[];
}

/** What losses read of one layer, by the name of their input: [B, columns] each; those of several layers are joined. */
export type Statistics = Partial<Record<'gates' | 'routed' | 'activations', Expr>>;

/** One architecture: which part of a layer it replaces, and how. */
export interface Architecture<S extends z.ZodRawShape = z.ZodRawShape, O = z.output<z.ZodObject<S>>> {
  /** Its options, each with a description. */
  readonly options: S;
  /** The part of a layer that it replaces; a layer takes one of each. A `layer` is all of it, of every layer. */
  readonly part: 'feed-forward' | 'attention' | 'layer';
  /** As reports name it. */
  describe(options: O): string;
  /**
   * Entries of config.json with which the family's PyTorch class computes the same; undefined where no class does, and then no
   * PyTorch weights are written.
   */
  torch?(options: O): Record<string, unknown>;
  /**
   * Rewrites one layer in place.
   * @param random of this layer alone
   * @throws InputError where the layer does not have the form that it replaces
   */
  rewrite(place: Place, options: O, random: Random): Statistics;
}

/** An architecture as a value; the types of its options follow from their schemas. */
export const defineArchitecture = <S extends z.ZodRawShape>(architecture: Architecture<S>): Architecture<S> =>
  architecture;

/**
 * A constant that is not trained, neither now nor when the saved file is trained again: weights that only Where reads count as
 * constants of the arithmetic (engine/passes/trainable-parameters.ts).
 */
export function fixed(graph: Graph, value: Tensor<'float32'>, name: string): Expr {
  const always = new Expr(graph, graph.constant(tensor('bool', [1], [1])));
  return always.where(new Expr(graph, graph.constant(value, name)), 0);
}

/** Zeros of a shape that the graph computes: int64 [rank]. */
export const zerosOf = (shape: Expr): Expr =>
  shape.op('ConstantOfShape', [], { value: tensor(shape.graph.float, [1], [0]) as never });

/** The mean over a text's tokens of [B, L] values: [B, 1]. */
export function overTokens(values: Expr, mask: Expr): Expr {
  const shown = mask.float();
  return values
    .mul(shown)
    .sum([1], true)
    .div(shown.sum([1], true).max(1));
}
