/** @file The registry of architectures, the option student.architecture, and its application to an encoder's graph. */
import { z } from 'zod';
import { InputError } from '../../common/errors.ts';
import { concatenated, Expr } from '../../engine/expressions/expr.ts';
import type { Graph, Value } from '../../engine/graph/ir.ts';
import { type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { fuse } from '../../engine/passes/fuse.ts';
import { chosenLayers, findLayers } from '../../engine/passes/layers.ts';
import { normalize } from '../../engine/passes/normalize.ts';
import { probe } from '../../engine/runtime/infer-shapes.ts';
import { Random } from '../../math/random.ts';
import type { Architecture, Place, Statistics } from './architecture.ts';
import * as architectures from './members.ts';

export type { Statistics } from './architecture.ts';
export { architectures };

/** Options of every architecture. */
const common = {
  layers: z
    .array(z.int())
    .min(1)
    .optional()
    .describe('layers that are rewritten, by their numbers among those kept, from 0 (-1 is the last); all by default'),
  seed: z.int().nonnegative().default(0).describe('seed of what is drawn: routers, random features, directions'),
};

const schemas = Object.entries(architectures).map(([kind, { options }]) =>
  z.strictObject({ kind: z.literal(kind).describe('which architecture'), ...options, ...common }),
);
type Kind = keyof typeof architectures;
type Schema = {
  [K in Kind]: z.ZodObject<
    { kind: z.ZodLiteral<K> } & typeof common &
      ((typeof architectures)[K]['options'] extends z.ZodRawShape ? (typeof architectures)[K]['options'] : never),
    z.core.$strict
  >;
}[Kind];
const one = z.discriminatedUnion('kind', schemas as unknown as [Schema, ...Schema[]]);
export type ArchitectureOptions = z.output<typeof one>;
type ArchitectureInput = z.input<typeof one>;

/** student.architecture: one rewrite, or one of the feed-forward networks and one of the attention. */
const list = z.preprocess(
  (given) => (given && typeof given === 'object' && !Array.isArray(given) ? [given] : given),
  z.array(one).min(1).max(2),
) as unknown as z.ZodType<ArchitectureOptions[], ArchitectureInput | ArchitectureInput[]>;
export const architectureSchema = list
  .optional()
  .describe(
    "other forms of the layers' parts: experts, relu, top-k in place of the feed-forward network; favor, tree in place of softmax attention; one, or a list of one of each; scale-invariant for whole layers",
  );

const registry = architectures as unknown as Readonly<Record<Kind, Architecture<z.ZodRawShape, ArchitectureOptions>>>;
const memberOf = ({ kind }: ArchitectureOptions) => registry[kind];

/** As reports name it. */
export const describeArchitecture = (all: readonly ArchitectureOptions[] = []): string =>
  all.map((o) => `, ${memberOf(o).describe(o)}`).join('');

/** What losses may read of a student's layers: the names of losses' inputs. */
export type StatisticName = keyof Statistics;

export interface Rewritten {
  /** Values of the graph that losses read; they are not outputs. */
  statistics: Partial<Record<StatisticName, Value>>;
  /** What config.json says about it. */
  config: Record<string, unknown>;
}

/** Entry of config.json by which an encoder that was rewritten is known. */
const KEY = 'onnx_distill_architecture';

/**
 * The family whose PyTorch class computes an encoder, as config.json says: `model_type`, and one that no class has where the layers were
 * rewritten to a form that it lacks. The class would load the weights of such an encoder and compute something else.
 */
export function torchFamily(config: Record<string, unknown>): string {
  const rewritten = config[KEY];
  const known = !rewritten || (Array.isArray(rewritten) && rewritten.every((o) => registry[o?.kind as Kind]?.torch));
  return known ? String(config.model_type) : `${config.model_type} with other layers`;
}

/**
 * Rewrites the layers of an encoder in place; the graph is then of the canonical opset.
 * @param graph ids and mask in, one output
 * @throws InputError where two rewrites replace the same part, a layer does not exist or does not have the form that is replaced
 */
export async function applyArchitecture(graph: Graph, all: readonly ArchitectureOptions[]): Promise<Rewritten> {
  const parts = all.map((o) => memberOf(o).part);
  if (new Set(parts).size < parts.length)
    throw new InputError({
      code: 'architecture.twice',
      subject: `student.architecture replaces the ${parts[0]} part twice: ${all.map((o) => o.kind).join(', ')}`,
      remedy: 'name one of them',
    });
  const whole = all.find((o) => memberOf(o).part === 'layer');
  if (whole && (all.length > 1 || whole.layers))
    throw new InputError({
      code: 'architecture.whole',
      subject: `student.architecture ${whole.kind} replaces every layer whole`,
      received: all.length > 1 ? all.map((o) => o.kind).join(', ') : `layers: [${whole.layers}]`,
      remedy: `name ${whole.kind} alone, without layers`,
    });
  const places = await placesOf(graph);
  const found: Partial<Record<StatisticName, Expr[]>> = {};
  for (const options of all) {
    const chosen = options.layers
      ? chosenLayers(options.layers, places.length, 'student.architecture, which counts them after student.layers,')
      : places.map((_, i) => i);
    for (const number of chosen) {
      const random = Random.of(options.seed, `${options.kind} ${number}`);
      for (const [name, value] of Object.entries(memberOf(options).rewrite(places[number], options, random)))
        found[name as StatisticName] = [...(found[name as StatisticName] ?? []), value];
    }
  }
  const statistics = Object.fromEntries(Object.entries(found).map(([name, all]) => [name, concatenated(all, 1).value]));
  const kept = [...graph.outputs];
  graph.setOutputs(...kept, ...(Object.values(statistics) as Value[]));
  graph.prune();
  graph.sort();
  graph.setOutputs(...kept);
  const torch = all.map((o) => memberOf(o).torch?.(o));
  return {
    statistics,
    config: { ...Object.assign({}, ...torch), [KEY]: all },
  };
}

/**
 * The layers of an encoder as rewrites are given them; the graph is then of the canonical opset.
 * @throws InputError where it has no mask
 */
export async function placesOf(graph: Graph): Promise<Place[]> {
  normalize(graph, 'the student');
  fuse(graph);
  const mask = graph.inputs.find((v) => v.name === 'attention_mask');
  if (!mask)
    throw new InputError({
      code: 'architecture.mask',
      subject: 'the student has no input attention_mask: its padding could not be left out',
      remedy: 'export it with attention_mask',
    });
  const shapes = await probe(graph, [sample(graph, 5, 9), sample(graph, 7, 11)]);
  return findLayers(graph).map((layer, number) => ({
    graph,
    layer,
    number,
    mask: new Expr(graph, mask),
    dims: (v) => shapes.get(v)?.dims ?? [],
  }));
}

/** Tokens of one size, none of them padding. */
const sample = (graph: Graph, rows: number, length: number): Record<string, Tensor> =>
  Object.fromEntries(
    graph.inputs.map((v) => [
      v.name,
      tensor('int64', [rows, length], new Float32Array(rows * length).fill(v.name === 'token_type_ids' ? 0 : 1)),
    ]),
  );
