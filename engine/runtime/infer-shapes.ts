/** @file Infers shapes by running the graph at two sizes with every value as an output. Dimensions that differ are dynamic. */
import { InputError } from '../../common/errors.ts';
import type { Shape, Shapes } from '../autodiff/shapes.ts';
import type { Dim, Graph, Value } from '../graph/ir.ts';
import type { Tensor } from '../graph/tensor.ts';
import { type Feeds, Session } from './session.ts';

/**
 * Types and dimensions of every value of a graph.
 *
 * @param graph its outputs are left as they are
 * @param samples feeds of two sizes. Dynamic dimensions must differ between them, must not be 1 in either,
 *   and two dimensions that can differ must not be equal in both.
 * @throws InputError with ONNX Runtime's message if the graph does not run at one of them
 */
export async function probe(graph: Graph, samples: readonly [Feeds, Feeds]): Promise<Shapes> {
  const made = graph.nodes.flatMap((n) => n.outputs).filter((v) => v.name);
  const outputs = [...graph.outputs];
  const types = made.map((v) => [v.dtype, v.dims] as const);
  // ONNX Runtime checks the types that a file declares; without them its inference provides them.
  for (const v of made) [v.dtype, v.dims] = [undefined, undefined];
  graph.setOutputs(...made);
  const seen: Record<string, Tensor>[] = [];
  try {
    const session = await Session.load(graph, { optimize: 'disabled', threads: 1 });
    try {
      for (const feeds of samples) seen.push(await session.run(feeds));
    } catch (cause) {
      const words = (cause as Error).message.replace(/\s+/g, ' ').trim();
      // Too little memory is not a fault of the model.
      if (/alloc/i.test(words)) throw cause;
      // Exporters that trace one example write its sizes into the file.
      throw new InputError({
        code: 'runtime.sizes',
        subject: `the model does not run at every size (${words})`,
        remedy: 'export it with dynamic axes, from code that reads sizes from its inputs',
        cause,
      });
    } finally {
      await session.release();
    }
  } finally {
    graph.setOutputs(...outputs);
    made.forEach((v, i) => {
      [v.dtype, v.dims] = types[i];
    });
  }
  const dim = (a: number, b: number): Dim => (a === b ? a : `d${a}_${b}`);
  const shapes = new Map<Value, Shape>();
  const note = (v: Value, a: Pick<Tensor, 'dtype' | 'dims'>, b: Pick<Tensor, 'dims'>): void => {
    shapes.set(v, { dtype: a.dtype, dims: a.dims.map((d, i) => dim(d, b.dims[i])) });
  };
  for (const v of made) note(v, seen[0][v.name], seen[1][v.name]);
  for (const v of graph.inputs) note(v, samples[0][v.name], samples[1][v.name]);
  for (const v of graph.constants) note(v, v.constant as Tensor, v.constant as Tensor);
  return shapes;
}
