/** @file FRR (`train.frr`): the linear layer behind the encoder, trained before it. */
import { startFolder } from '../../config/student.ts';
import { type Dataset, textsAt } from '../../data/dataset.ts';
import { type Tensor, tensor } from '../../engine/graph/tensor.ts';
import type { RunContext } from '../../run/context.ts';
import { keepArrays } from '../../run/stages/keep-arrays.ts';
import { defineStage, given, type Result } from '../../run/stages/stage.ts';
import { PROJECTION, type Student } from '../../students/student.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import { type Embeddings, embed } from '../../teachers/teacher.ts';
import type { EmbeddingTable, Examples } from '../../training/batches/dual-encoder-batch.ts';
import { linearHeadOf } from '../../training/linear-head.ts';
import type { WeightedLoss } from '../../training/step/dual-encoder-step.ts';
import type { RobustScores } from './adversarial-scores.ts';
import type { TrainingSet } from './training-set.ts';

interface Given {
  student: Student;
  data: Dataset;
  examples: Examples;
  losses: readonly WeightedLoss[];
  encoder: OpenedTeacher;
  robust?: RobustScores;
}

const layer = defineStage({
  name: 'linear layer',
  options: ['train.frr', 'train.batchSize', 'train.candidates', 'seed'],
  async make({ train, seed }, { student, data, examples, losses, encoder, robust }: Given, { note, time, watch }) {
    const { frr, batchSize, candidates } = train;
    if (!frr) throw new Error('there is no layer');
    const { queries, documents } = await time('embed', () => featuresOf(data, examples, encoder, watch));
    const { dimensions: D } = queries;
    // A model that nothing can be put behind is refused before the layer is trained.
    student.headWith(new Map([[PROJECTION, tensor('float32', [D, D], new Float32Array(D * D))]]));
    const own = robust ? { ...examples, scores: robust.clean } : examples;
    const { head, loss, reconstructed } = await time('train the linear layer', () =>
      linearHeadOf({ examples: own }, { queries, documents }, losses, { ...frr, batchSize, candidates, seed }, watch),
    );
    note(
      `FRR: a linear layer is trained for ${frr.steps} steps to a loss of ${loss.toFixed(4)}; features are reconstructed from its scores to a squared distance of ${reconstructed.toFixed(4)}`,
    );
    return head;
  },
  keep: keepArrays<Tensor<'float32'>>(
    'linear-layer',
    ({ data }) => ({ head: data }),
    ({ head }) => {
      const width = Math.round(Math.sqrt(head?.length ?? 0));
      return tensor('float32', [width, width], head as Float32Array);
    },
  ),
});

/** Vectors by position of the texts that examples name. */
async function featuresOf(
  data: Dataset,
  { queries, documents }: Examples,
  encoder: OpenedTeacher,
  watch: Parameters<ReturnType<typeof embed>>[2],
): Promise<Record<'queries' | 'documents', EmbeddingTable>> {
  const spread = (found: Embeddings, rows: readonly number[], length: number): EmbeddingTable => {
    const { dimensions: D } = found;
    const table = new Float32Array(length * D);
    for (const [i, row] of rows.entries()) table.set(found.data.subarray(i * D, (i + 1) * D), row * D);
    return { dimensions: D, data: table };
  };
  const [asked, read] = [[...new Set(queries)], [...new Set(documents)]];
  const own = { length: read.length, text: (i: number) => data.documents.text(read[i]) };
  const model = embed(encoder.teacher);
  return {
    queries: spread(await model(textsAt(data, asked), 'query', watch), asked, data.queries.length),
    documents: spread(await model(own, 'document', watch), read, data.documents.length),
  };
}

/** The layer of a run with `train.frr`; undefined without it. */
export async function linearHead(
  run: RunContext,
  { student, data, examples }: TrainingSet,
  robust: Result<RobustScores> | undefined,
): Promise<Result<Tensor<'float32'>> | undefined> {
  const { student: options, train } = run.config;
  if (!train.frr) return undefined;
  const { queryTokens, documentTokens, prompts } = options;
  const model = startFolder(options) as string;
  return run.withTeacher({ kind: 'dual-encoder', model, queryTokens, documentTokens, prompts }, async (opened) => {
    const own = await opened.value();
    const encoder = given(own, { 'the encoder behind which a layer is trained': own.key });
    return run.stage(layer, { student, data, examples, losses: run.losses, encoder, robust });
  });
}
