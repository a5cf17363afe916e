/** @file Infers shapes by running the graph at two sizes with every value as an output. Dimensions that differ are dynamic. */
import { InputError } from '../../common/errors.ts';
import type { Shape, Shapes } from '../autodiff/shapes.ts';
import type { Dim, Graph, Value } from '../graph/ir.ts';
import { type Tensor, tensor } from '../graph/tensor.ts';
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
  const chosen = await positionsChosen(graph, samples);
  if (chosen) return chosen;
  return observe(graph, samples);
}

/**
 * Shapes of a graph in which NonZero chooses positions: how many differs from run to run by the numbers themselves, and may be none in
 * a sample. They are observed with numbers of positions of their own in place of each NonZero, which name their dimensions.
 */
async function positionsChosen(graph: Graph, samples: readonly [Feeds, Feeds]): Promise<Shapes | undefined> {
  const nodes = graph.nodes.filter((n) => n.op === 'NonZero');
  if (!nodes.length) return undefined;
  const copy = graph.clone();
  const twins = copy.nodes.filter((n) => n.op === 'NonZero');
  copy.setOutputs(...twins.map((n) => n.inputs[0] as Value));
  copy.prune();
  copy.dropUnusedInputs();
  const used = new Set(copy.inputs.map((v) => v.name));
  const own = samples.map((feeds) => Object.fromEntries(Object.entries(feeds).filter(([name]) => used.has(name))));
  const ranks = (await seen(copy, own[0])).map((t) => t.dims.length);
  // The readers of each NonZero read an input meanwhile.
  const replaced = nodes.map((node) => {
    const [out] = node.outputs;
    const readers = [...out.readers];
    const input = graph.input(`${out.name}.positions`, 'int64', ['axes', 'positions']);
    for (const reader of readers) reader.replaceInput(out, input);
    return { out, input, readers };
  });
  const feeds = samples.map((given, k) => ({
    ...given,
    ...Object.fromEntries(
      replaced.map(({ input }, i) => {
        const n = FEWEST + i + k * APART;
        return [input.name, tensor('int64', [ranks[i], n], new Float64Array(ranks[i] * n))];
      }),
    ),
  }));
  try {
    const shapes = new Map(await observe(graph, [feeds[0], feeds[1]]));
    for (const { out, input } of replaced) {
      shapes.set(out, shapes.get(input) as Shape);
      shapes.delete(input);
    }
    return shapes;
  } finally {
    for (const { out, input, readers } of replaced) {
      for (const reader of readers) reader.replaceInput(input, out);
      graph.removeInput(input);
    }
  }
}

/** Positions in the first sample, and how many more there are in the second: pairs that no other dimension has. */
const FEWEST = 19;
const APART = 25;

/** The outputs of a graph for some feeds, in order. */
async function seen(graph: Graph, feeds: Feeds): Promise<Tensor[]> {
  const session = await Session.load(graph, { optimize: 'disabled', threads: 1 });
  try {
    const results = await session.run(feeds);
    return graph.outputs.map((v) => results[v.name]);
  } finally {
    await session.release();
  }
}

async function observe(graph: Graph, samples: readonly [Feeds, Feeds]): Promise<Shapes> {
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
