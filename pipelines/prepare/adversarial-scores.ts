/** @file DAFT (`train.daft`): scores of a cross-encoder whose last layer is trained on features moved against it. */
import type { Config } from '../../config/config.ts';
import type { Dataset } from '../../data/dataset.ts';
import { computeOn } from '../../engine/runtime/provider.ts';
import type { RunContext } from '../../run/context.ts';
import { namedModels } from '../../run/data.ts';
import { keepArrays } from '../../run/stages/keep-arrays.ts';
import { defineStage, type Result } from '../../run/stages/stage.ts';
import { crossEncoderLimits } from '../../teachers/open-model.ts';
import { scoreFeatures } from '../../teachers/score-features.ts';
import {
  adversarialHead,
  adversarialScores,
  cleanScores,
  type FeatureLists,
  lengthOf,
} from '../../training/adversarial-head.ts';
import type { Examples } from '../../training/batches/dual-encoder-batch.ts';
import type { TrainingSet } from './training-set.ts';

/** Scores by position as those of the examples: steps of even number learn the first, the others the second. */
export interface RobustScores {
  clean: Float32Array;
  adversarial: Float32Array;
}

const robustScores = defineStage({
  name: 'adversarial scores',
  options: ['train.daft'],
  unrecorded: ['train.daft.model', 'teacher', 'train.provider', 'train.threads'],
  async make(
    options,
    { data, examples, models: [model] }: { data: Dataset; examples: Examples; models: readonly string[] },
    { note, time, watch },
  ): Promise<RobustScores> {
    const { daft } = options.train;
    if (!daft) throw new Error('there is no epsilon');
    const { teacher } = options;
    const limits = teacher?.kind === 'cross-encoder' ? crossEncoderLimits(teacher) : {};
    const reader = await scoreFeatures(model, { ...limits, session: await computeOn(options.train) });
    try {
      const { dimensions, head } = reader;
      const owners = Array.from(examples.queries, (_, i) => i).flatMap((i) =>
        Array<number>(examples.offsets[i + 1] - examples.offsets[i]).fill(i),
      );
      const pairs = owners.map((i, at) => ({
        query: data.queries.text(examples.queries[i]),
        document: data.documents.text(examples.documents[at]),
      }));
      const features = await time('read features', () => reader.read(pairs, watch));
      const known: FeatureLists = { dimensions, features, offsets: examples.offsets, labels: new Float32Array(0) };
      const lists = { ...known, labels: labelsOf(examples, cleanScores(known, head)) };
      const robust = await time('train the last layer', async () => adversarialHead(lists, head, daft));
      const reach = daft.epsilon * lengthOf(robust.weight);
      note(
        `DAFT: the last layer of ${model} is trained on features moved by ${daft.epsilon}, which moves its logits by ${reach.toFixed(2)}`,
      );
      // Pairs without a score have none here either.
      const scored = (scores: Float64Array): Float32Array =>
        Float32Array.from(scores, (z, at) => (Number.isNaN(examples.scores[at]) ? Number.NaN : z));
      return {
        clean: scored(cleanScores(lists, robust)),
        adversarial: scored(adversarialScores(lists, robust, daft.epsilon)),
      };
    } finally {
      await reader.dispose();
    }
  },
  keep: keepArrays<RobustScores>(
    'adversarial-scores',
    ({ clean, adversarial }) => ({ clean, adversarial }),
    (arrays) => arrays as unknown as RobustScores,
  ),
});

/** The labelled positives of each list, alike; the teacher's best where there is none. */
function labelsOf({ queries, offsets, documents, labelled, relevant }: Examples, scores: Float64Array): Float32Array {
  const labels = new Float32Array(documents.length);
  for (const [i, query] of queries.entries()) {
    const [from, to] = [offsets[i], offsets[i + 1]];
    const all = Array.from({ length: to - from }, (_, j) => from + j);
    const known = relevant(query);
    const best = all.reduce((a, b) => (scores[b] > scores[a] ? b : a), from);
    const positives = labelled[i] ? all.filter((at) => at === from || known.has(documents[at])) : [best];
    if (to > from) for (const at of positives) labels[at] = 1 / positives.length;
  }
  return labels;
}

/** What `train.daft` makes of a training set; undefined without it. */
export async function adversarial(run: RunContext, set: TrainingSet): Promise<Result<RobustScores> | undefined> {
  const { teacher, train } = run.config;
  if (!train.daft) return undefined;
  const model = train.daft.model ?? (teacher as Extract<Config['teacher'], { kind: 'cross-encoder' }>).model;
  const models = await namedModels('train.daft.model', [model]);
  return run.stage(robustScores, { data: set.data, examples: set.examples, models });
}
