/** @file The engine's entry point: differentiates a model's outputs by parameters in one call. */
import { InputError } from '../common/errors.ts';
import { differentiate as append } from './autodiff/differentiate.ts';
import { Expr } from './expressions/expr.ts';
import type { Graph, Value } from './graph/ir.ts';
import { type Tensor, tensor } from './graph/tensor.ts';
import { probe } from './runtime/infer-shapes.ts';

/** A model with gradient outputs, and the initial parameter values. */
export interface DifferentiatedModel {
  /** The model with a gradient as one more output for each parameter; parameters are inputs. */
  graph: Graph;
  /** The parameters' initial values from the model, by input name. */
  weights: Record<string, Tensor>;
  /** The name of the output that holds each parameter's gradient, by the parameter's name. */
  gradients: Record<string, string>;
}

/**
 * Adds to a model outputs that hold d sum(outputs) / d parameter.
 *
 * Shapes are inferred from two runs with inputs of zeros (ones for float inputs), in which each dynamic dimension has two
 * different sizes; `sizes` overrides them where the model does not run at those.
 *
 * @param model in opset 20, as it was built or as `normalize` left it; it is extended in place
 * @param outputs values of the model, usually one scalar loss
 * @param parameters inputs, or constants, which become inputs
 * @throws InputError where an operator between parameters and outputs has no rule, or no output depends on a parameter
 */
export async function differentiate(
  model: Graph,
  outputs: readonly Value[],
  parameters: readonly Value[],
  options: { sizes?: Readonly<Record<string, readonly [number, number]>> } = {},
): Promise<DifferentiatedModel> {
  const weights: Record<string, Tensor> = {};
  for (const p of parameters) {
    if (!p.constant) continue;
    weights[p.name] = model.makeInput(p);
  }
  const scalars = outputs.map((v) => new Expr(model, v).reshape(-1).sum([0]));
  const loss = scalars.reduce((a, b) => a.add(b)).value;
  const kept = [...model.outputs];
  model.setOutputs(loss);
  const shapes = await probe(model, samples(model, weights, options.sizes ?? {}));
  const found = append(model, loss, parameters, shapes);
  model.setOutputs(...(kept.length ? kept : outputs));
  const gradients: Record<string, string> = {};
  for (const p of parameters) {
    const gradient = found.get(p);
    if (!gradient || !('dense' in gradient))
      throw new InputError({
        code: 'autodiff.no-path',
        subject: `no output depends on the parameter '${p.name}'`,
        remedy: 'leave it out, or check which values are differentiated',
      });
    const own = new Expr(model, gradient.dense).op('Identity').value;
    model.output(own, `gradient:${p.name}`);
    gradients[p.name] = own.name;
  }
  model.prune();
  return { graph: model, weights, gradients };
}

/** Feeds of two sizes: primes, so that no two dimensions known by name agree by chance. */
function samples(
  model: Graph,
  weights: Readonly<Record<string, Tensor>>,
  sizes: Readonly<Record<string, readonly [number, number]>>,
): [Record<string, Tensor>, Record<string, Tensor>] {
  const primes = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];
  const names = [...new Set(model.inputs.flatMap((v) => v.dims ?? []).filter((d) => typeof d === 'string'))];
  const size = (d: number | string, k: 0 | 1): number =>
    typeof d === 'number' ? d : (sizes[d]?.[k] ?? primes[(2 * names.indexOf(d) + k) % primes.length]);
  const feeds = (k: 0 | 1): Record<string, Tensor> =>
    Object.fromEntries(
      model.inputs.map((v) => {
        const dims = (v.dims ?? []).map((d) => size(d, k));
        const count = dims.reduce((a, b) => a * b, 1);
        const dtype = v.dtype ?? 'float32';
        return [
          v.name,
          weights[v.name] ?? tensor(dtype, dims, new Float64Array(count).fill(dtype.startsWith('float') ? 1 : 0)),
        ];
      }),
    );
  return [feeds(0), feeds(1)];
}
