/** @file Trains a cross-encoder's layers and its exits together, so that earlier exits come nearer to the logits that it had. */
import type { RunControl } from '../../common/progress.ts';
import type { Dataset } from '../../data/dataset.ts';
import { constant, Expr } from '../../engine/expressions/expr.ts';
import type { Graph } from '../../engine/graph/ir.ts';
import { findLayers } from '../../engine/passes/layers.ts';
import { mse } from '../../losses/mse.ts';
import type { Linear } from '../../math/ridge.ts';
import { withWeights } from '../../students/student.ts';
import { type FolderReading, pairTokens } from '../../teachers/reading/describe.ts';
import type { QueryList } from './lists.ts';
import { trainOnLogits } from './train-on-logits.ts';

export interface TrunkOptions {
  steps: number;
  seed: number;
  /** Where the state of a stopped training is kept. */
  stateFolder: string;
  /** What the state belongs to in addition to these options. */
  key: string;
}

/** Pairs a step: queries times documents. */
const [QUERIES, DOCUMENTS] = [4, 8];
const LEARNING_RATE = 2e-5;

/**
 * Minimises the squared error of every exit's logit, and of the last one, about the logits that the model had. The heads that it
 * learns on the way are not kept: they are fitted again to what the layers give then.
 *
 * @param heads that the exits start from
 * @param logits [pairs] the model's own, list after list
 * @returns the model with trained layers
 */
export async function trainTrunk(
  model: Graph,
  after: readonly number[],
  heads: readonly Linear[],
  {
    dataset,
    lists,
    logits,
    reading,
  }: {
    dataset: Dataset;
    lists: readonly QueryList[];
    logits: Float32Array;
    reading: Pick<FolderReading, 'tokenizer' | 'limits' | 'own'>;
  },
  options: TrunkOptions,
  watch: RunControl,
): Promise<Graph> {
  const { graph, outputs } = withExits(model, after, heads);
  const tokensOf = pairTokens(reading);
  const { steps, seed, stateFolder } = options;
  const { weights } = await trainOnLogits(
    {
      model: graph,
      losses: [{ loss: mse({ scale: 1, shift: 0 }), weight: 1 }],
      outputs,
      ...{ dataset, lists, logits },
      pairTokens: (q, d) => tokensOf({ query: dataset.queries.text(q), document: dataset.documents.text(d) }),
      padId: reading.tokenizer.padId,
    },
    {
      ...{ steps, seed, stateFolder, learningRate: LEARNING_RATE, queries: QUERIES, candidates: DOCUMENTS },
      stage: 'train exits',
      key: { after, model: options.key },
    },
    watch,
  );
  return withWeights(model, weights);
}

/** The model with a logit an exit as further outputs. */
function withExits(model: Graph, after: readonly number[], heads: readonly Linear[]) {
  const graph = model.clone();
  const layers = findLayers(graph);
  const outputs = after.map((n, i) => {
    const { weights, intercept } = heads[i];
    const first = new Expr(graph, layers[n - 1].output).gather(constant(graph, 'int64', [], [0]), 1);
    const weight = { dtype: 'float32', dims: [weights.length, 1], data: Float32Array.from(weights) } as const;
    const bias = { dtype: 'float32', dims: [1], data: Float32Array.of(intercept) } as const;
    const logit = first
      .matmul(new Expr(graph, graph.constant(weight, `exit.${n}.weight`)))
      .add(new Expr(graph, graph.constant(bias, `exit.${n}.bias`)));
    graph.output(logit.value, `exit-${n}`);
    return logit.value.name;
  });
  graph.sort();
  return { graph, outputs: [...outputs, 'logits'] };
}
