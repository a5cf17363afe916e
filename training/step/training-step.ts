/** @file The types of training steps: a step as one graph, and its runner on the host. */
import { InputError } from '../../common/errors.ts';
import type { Gradient } from '../../engine/autodiff/differentiate.ts';
import type { Forms } from '../../engine/autodiff/rule.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import type { Tensor } from '../../engine/graph/tensor.ts';
import { onProcessor, type SessionOptions } from '../../engine/runtime/session.ts';
import type { Product, ProductForm } from './products.ts';

export interface StepResult {
  /** The weighted total. */
  loss: number;
  /** Each loss's own mean, in the order given. */
  terms: number[];
}

/** A parameter as an optimizer uses it. */
export interface Parameter {
  readonly name: string;
  readonly dims: readonly number[];
  /** Whether it is a lookup table (word, position and type embeddings) and not a matrix of a product. */
  readonly table: boolean;
  readonly data: Float32Array;
  /** The dense gradient, overwritten by every step; absent if the gradient is rows. */
  readonly gradient?: Float32Array;
  /** The gradient as rows: each pair adds rows[i] to table row indices[i]. */
  rows?: { indices: BigInt64Array; rows: Float32Array }[];
  /** Where the step gives them: how the matrix stands in its products. */
  readonly product?: ProductForm;
  /** What was multiplied in the last step, [tokens, inputs], and the products, [tokens, outputs]. */
  multiplied?: { x: Tensor; before?: Tensor };
}

/** A differentiated step, for the host or for a device: its graph, and a function that makes feeds from a batch. */
export interface DifferentiatedStep<B> {
  graph: Graph;
  /** Weight inputs with their initial values. */
  start: ReadonlyMap<string, Tensor>;
  /** The gradient of each trained weight, as values of the graph. */
  gradients: ReadonlyMap<string, Gradient>;
  /** Of the matrices of products, where they were asked for. */
  products?: ReadonlyMap<string, Product>;
  /** Whether gradients come multiplied by an input, LOSS_SCALE. */
  scaled?: boolean;
  /** Outputs: the weighted total, and each loss's own mean. */
  total: string;
  terms: readonly string[];
  /** @param step determines the dropout masks */
  feeds(batch: B, step: number): Record<string, Tensor>;
}

/** Forms of gradients by where a step runs. */
export type DeviceForms = Exclude<Forms, 'cuda-half'>;

/** @param processor whether it will run on a CPU and not on a device; `plain` where the device is not named */
export const formsOn = (where?: SessionOptions, processor = onProcessor(where)): DeviceForms => {
  if (processor) return 'cpu';
  const provider = where?.provider ?? 'cpu';
  return provider === 'cpu' ? 'plain' : provider;
};

/** Input of a step whose gradients are scaled, float32 [1]: the factor. */
export const LOSS_SCALE = 'loss_scale';

/** Runs a step on the host: as one session run, or chunk by chunk (GradCache). */
export interface HostStep<B> {
  readonly parameters: readonly Parameter[];
  /** The graph that runs (of GradCache: the encoder's backward pass). */
  readonly graph: Graph;
  /**
   * One forward and backward pass: `parameters[i].gradient` and `.rows` then hold the gradients.
   * @param step determines the dropout masks; 0 by default
   */
  run(batch: B, step?: number): Promise<StepResult>;
  /** The first non-finite value of a step, if it can be found; runs the step again. */
  inspect?(batch: B, step: number): Promise<string | undefined>;
  release(): Promise<void>;
}

/** The parameters of a step, with arrays for their values and dense gradients. @param dense which have a dense gradient */
export function parametersOf(
  weights: Iterable<readonly [name: string, start: Tensor]>,
  dense: (name: string) => boolean,
  table: (name: string) => boolean,
  products?: ReadonlyMap<string, ProductForm>,
): Parameter[] {
  return Array.from(weights, ([name, { dims, data: start }]): Parameter => {
    const data = Float32Array.from(start as Float32Array);
    return {
      name,
      dims,
      table: table(name),
      data,
      gradient: dense(name) ? new Float32Array(data.length) : undefined,
      ...(products?.has(name) && { product: formOf(products.get(name) as ProductForm) }),
    };
  });
}

/** The form alone, without the values of a graph. */
export const formOf = ({ turned, link }: ProductForm): ProductForm => ({ turned, ...(link && { link }) });

/** Names of the inputs that a node of the graph uses as lookup tables. */
export const tableNames = (graph: Pick<Graph, 'inputs'>): Set<string> =>
  new Set(
    graph.inputs.filter((v) => [...v.readers].some((n) => n.op === 'Gather' && n.inputs[0] === v)).map((v) => v.name),
  );

/** Selects the feeds that a graph needs, by name. @throws InputError where one is missing */
export function wantedFeeds(
  names: readonly string[],
  ...given: readonly Record<string, Tensor>[]
): Record<string, Tensor> {
  return Object.fromEntries(
    names.map((name) => {
      const feed = given.find((g) => Object.hasOwn(g, name));
      if (!feed)
        throw new InputError({
          code: 'train.missing-input',
          subject: `the losses read '${name}' and the batch has none`,
          remedy: 'give it, or leave out the loss that reads it',
        });
      return [name, feed[name]];
    }),
  );
}
