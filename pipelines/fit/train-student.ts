/** @file From examples and targets to trained weights. */

import { needsOf } from '../../config/losses.ts';
import { toWeighting } from '../../config/methods.ts';
import type { Options } from '../../config/options.ts';
import { warnOfSmallLosses } from '../../evaluation/diagnostics/warnings.ts';
import { embeddingMatching } from '../../losses/embedding-matching.ts';
import type { RunContext } from '../../run/context.ts';
import { defineStage, type Result } from '../../run/stages/stage.ts';
import { mapped, PROJECTION, type Weights } from '../../students/student.ts';
import { encoderOf, encodingOf } from '../../students/student-scores.ts';
import { makeBatch } from '../../training/batches/dual-encoder-batch.ts';
import { keptExamples } from '../../training/batches/examples.ts';
import { tokenTable } from '../../training/batches/token-table.ts';
import { train } from '../../training/trainer.ts';
import { keptWith, type StateKey } from '../../training/training-state.ts';
import type { TrainingSet } from '../prepare/training-set.ts';
import { checkExport } from './check-export.ts';
import { averaged, averagedAt } from './parts/average.ts';
import { type Peer, trainTogether } from './parts/co-teaching.ts';
import { devSample, devScore } from './parts/dev-score.ts';
import {
  type Fit,
  frozenOf,
  loopOptions,
  type Renewal,
  type Trained,
  type TrainingInputs,
  trainingOptions,
  unrecordedTrainingOptions,
  warnOfSkipped,
} from './parts/fit.ts';
import { lexicalScores } from './parts/lexical-scores.ts';
import { openLearner } from './parts/open-learner.ts';
import { pairVectors } from './parts/pair-embeddings.ts';
import { refresher } from './parts/refresh-negatives.ts';
import { weigh, weigher } from './parts/reweight.ts';
import { stepChunk } from './parts/step-memory.ts';
import { streamOf, surpriseOf } from './parts/stream-batches.ts';
import { topicOrder } from './parts/topic-batches.ts';
import { openSparseLearner } from './sparse/open-sparse-learner.ts';
import { sparseDevScore } from './sparse/sparse-dev-score.ts';
import { contentOfTraining, keepTraining } from './training-artifacts.ts';

/** Trained weights, from the beginning or from the state that a stopped run left. */
const training = defineStage({
  name: 'training',
  options: trainingOptions,
  unrecorded: unrecordedTrainingOptions,
  unchanged: 'finished in an earlier run',
  reused: 'the training of an earlier run is used',
  content: contentOfTraining,
  keep: keepTraining,
  async make(options, inputs: TrainingInputs, tools): Promise<Trained> {
    checkExport(options, inputs.data, inputs.student, inputs.documents);
    const fit: Fit = { ...tools, options, inputs, seed: options.seed };
    if (!toWeighting(options.weighting).needs.includes('peer')) return trainAnew(fit, '');
    return trainTogether(tools.path('training', 'peer'), keyOf(fit), tools.watch.signal, (who, peer, signal) => {
      const watch = { ...tools.watch, signal };
      if (!who) return trainAnew({ ...fit, watch }, '', peer);
      // The second student trains as the first does, in batches of another seed, and reports nothing.
      const quiet = { watch: { ...watch, onProgress: undefined }, note: () => {}, warn: () => {} };
      return trainAnew({ ...fit, ...quiet, seed: fit.seed + 1 }, 'peer', peer);
    });
  },
});

/** Trains a student on its training set; a finished training is not done again. */
export async function trainStudent(
  run: RunContext,
  set: TrainingSet,
  more: {
    start?: Result<Weights>;
    earlier?: Result<NonNullable<TrainingInputs['earlier']>>;
    losses?: RunContext['losses'];
    robust?: Result<NonNullable<TrainingInputs['robust']>>;
    head?: Result<NonNullable<TrainingInputs['head']>>;
  } = {},
): Promise<Result<Trained>> {
  const { targets, ...known } = await weigh(run, set);
  const { losses, teacher, embedder, data } = run;
  return run.stage(training, { losses, ...known, ...targets, ...more, teacher, embedder, dev: data.dev });
}

/** How far embeddings of general spans are from those of the encoder as it was. */
const keptLoss = embeddingMatching({ of: 'queries', distance: 'squared' });

/** FRR's layer in the graph that is trained. */
const HEAD = 'frr.head';

/** What the state of a training belongs to. @param name of the second of two students */
const keyOf = ({ fingerprint }: Fit, name = ''): StateKey =>
  ({ ...fingerprint, ...(name && { 'the student': name }) }) as StateKey;

async function trainAnew(fit: Fit, name: string, peer?: Peer): Promise<Trained> {
  const { options, inputs, watch, seed } = fit;
  const { student, data, losses, queries, documents, extra, kept: general, robust, head } = inputs;
  const { train: settings } = options;
  const { keep } = options.student;
  const needs = needsOf(losses);
  const frozenDocuments = frozenOf(fit) !== undefined;
  const draws = Math.max(0, ...options.losses.map((l) => (l.kind === 'rank-distil' ? (l.draws ?? 0) : 0)));
  const n = inputs.examples.queries.length;
  const perStep = Math.min(settings.batchSize, n);
  const perQuery = frozenDocuments ? 1 : 1 + settings.candidates;
  const chunk = await stepChunk(fit, perStep * perQuery + ((extra && settings.spans) || 0) + (keep?.count ?? 0));
  const embedded = documents?.dimensions ?? queries?.dimensions;
  const pairs = await pairVectors(fit, embedded);
  const channel = await lexicalScores(fit);
  const stream = streamOf(fit);
  const perPass = stream?.batches ?? Math.floor(n / perStep);
  const totalSteps = stepsOf(options, perPass);
  const optimizer = {
    weightDecay: settings.weightDecay,
    decayNormsAndBiases: settings.decayNormsAndBiases,
    clipNorm: settings.clipNorm ?? undefined,
    optimizer: settings.optimizer,
  };
  const learner = await fit.time('differentiate', () => {
    if (student.sparse) return openSparseLearner(options, student, { losses, steps: totalSteps, seed }, optimizer);
    return openLearner(
      fit,
      {
        encoder: head ? mapped(student.graph.clone(), head, HEAD) : (student.observed ?? student.graph),
        fixed: head && new Set([HEAD]),
        pooling: student.pooling,
        normalize: student.normalize,
        losses,
        given: [
          ...(needs.has('reliability') ? ['reliability' as const] : []),
          ...(draws ? ['gumbel' as const] : []),
          ...(pairs ? (['pairQueries', 'pairDocuments'] as const) : []),
        ],
        frozenDocuments: frozenDocuments ? documents?.dimensions : undefined,
        teacherWidth: embedded ?? pairs?.width,
        pairWidth: pairs?.width,
        extraTexts: Boolean(extra),
        lexical: settings.lexical !== undefined,
        kept:
          keep && general ? { loss: keptLoss, weight: keep.weight, width: general.embeddings.dimensions } : undefined,
        groups: settings.groups,
        gradCacheChunk: settings.gradCacheChunk,
        dropout: settings.dropout,
        freeze: settings.freeze,
        exits: settings.exits,
        positions: student.positions,
        seed,
      },
      optimizer,
      chunk,
    ).catch(async (error: unknown) => {
      await pairs?.close();
      throw error;
    });
  });
  try {
    if (inputs.start) await learner.setWeights(inputs.start);
    const kept = (weights: Weights): Weights =>
      // Where documents are encoded too, the projection only serves the losses.
      frozenDocuments ? weights : new Map([...weights].filter(([name]) => name !== PROJECTION));
    // FRR's layer is saved as a projection is.
    const served = (weights: Weights): Weights =>
      head ? new Map([...kept(weights), [PROJECTION, head]]) : kept(weights);
    const initial: Weights = kept(await learner.weights());
    const limit = (tokens: number): number => Math.min(tokens, student.positions);
    const queryLimit = limit(options.student.queryTokens);
    const documentLimit = limit(settings.documentTokens ?? options.student.documentTokens);
    const source = {
      queryTokens: tokenTable(data.queries, (text) => student.queryTokens(text, queryLimit)),
      documentTokens: tokenTable(data.documents, (text) => student.documentTokens(text, documentLimit)),
      padId: student.tokenizer.padId,
      teacherQueries: queries,
      teacherDocuments: documents,
      frozenDocuments,
      extra,
      kept: general,
      order: stream ? (number: number) => stream.batch(number) : await topicOrder(fit),
    };
    const renewals = [
      stream?.readsSurprise ? surpriseOf(fit, stream) : undefined,
      earlierTeachers(inputs, totalSteps),
      refresher(fit),
      weigher(fit, Math.max(1, perPass), peer),
    ].filter((r): r is Renewal => r !== undefined);
    // What the next step learns from; each renewal gives new ones.
    let examples = inputs.examples;
    /** With DAFT, clean scores and those of moved features in turn. */
    const learned = (number: number): typeof examples =>
      robust ? { ...examples, scores: number % 2 ? robust.adversarial : robust.clean } : examples;
    const batchOptions = {
      queries: perStep,
      candidates: settings.candidates,
      documentGroups: settings.documentGroups,
      draws,
      extraTexts: extra && (settings.spans ?? undefined),
      sampledDocuments: settings.sampledDocuments,
      keptTexts: keep?.count,
      seed,
    };
    const { dev } = options.data.splits;
    const evaluates = dev !== null && settings.evaluateEvery !== null;
    const sample = evaluates ? await devSample(fit, dev) : undefined;
    const onDev = async (weights: Weights): Promise<number> => {
      if (student.sparse) return sparseDevScore(fit, weights, dev as string, sample);
      const encoder = await encoderOf(student, served(weights), await encodingOf(options));
      try {
        return await devScore(fit, encoder, dev as string, sample);
      } finally {
        await encoder.dispose();
      }
    };
    const result = await fit.time('train', () =>
      train<ReturnType<typeof makeBatch>>(
        learner,
        {
          draw(number) {
            const drawn = makeBatch({ ...source, examples: learned(number) }, number, batchOptions);
            const batch = channel ? channel.addTo(drawn, examples) : drawn;
            return pairs ? pairs.addTo(batch, examples) : batch;
          },
          ids: ({ exampleIds }) => exampleIds.map((e) => data.queries.ids[examples.queries[e]]),
          *arrays({ arrays, documentEmbeddings, extra: texts, kept: spans, weights }) {
            const read = needs as ReadonlySet<string>;
            for (const [name, array] of Object.entries(arrays))
              if (array && read.has(name)) yield [name, array.data as Float32Array];
            if (documentEmbeddings) yield ['documents', documentEmbeddings.data as Float32Array];
            if (texts) yield ['teacherExtra', texts.embeddings.data as Float32Array];
            if (spans) yield ['teacherKept', spans.embeddings.data as Float32Array];
            yield ['weights', weights.data as Float32Array];
          },
        },
        {
          terms: [...options.losses.map((l) => l.kind), ...(keep ? ['student.keep'] : [])],
          ...loopOptions(settings, totalSteps, evaluates),
        },
        {
          ...watch,
          stateFolder: fit.path('training', name),
          key: keyOf(fit, name),
          kept: keptWith(
            keptExamples(
              () => examples,
              (saved) => {
                examples = saved;
              },
            ),
            stream,
          ),
          ...(renewals.length && {
            async beforeStep(step: number, weights: () => Promise<Weights>) {
              for (const renew of renewals) examples = await renew(step, weights, examples);
            },
          }),
          onFirstSteps: (log) => warnOfSmallLosses(options.losses, log, fit.warn),
          evaluate: evaluates ? onDev : undefined,
        },
      ));
    warnOfSkipped(result.skipped, totalSteps, fit.warn);
    const trained = { ...result, weights: served(result.weights), initial, steps: totalSteps };
    const { average } = settings;
    if (typeof average === 'number') return await averagedAt(trained, average, evaluates ? onDev : undefined, fit);
    return evaluates && average ? await averaged(trained, average, onDev, fit) : trained;
  } finally {
    await learner.release();
    await pairs?.close();
  }
}

/** The first steps learn scores of earlier checkpoints of the teacher; which one's depends on the step alone. */
function earlierTeachers({ earlier, examples: { scores: last } }: TrainingInputs, total: number): Renewal | undefined {
  if (!earlier) return undefined;
  const { scores, share } = earlier;
  const steps = share * total;
  return async (step, _, examples) => ({
    ...examples,
    scores: step < steps ? scores[Math.floor((step / steps) * scores.length)] : last,
  });
}

/** Steps that training takes. @param batches of a pass over the queries */
function stepsOf({ train: { steps, epochs, accumulate } }: Options<'train'>, batches: number): number {
  return steps ?? Math.max(1, Math.round(((epochs ?? 1) * batches) / accumulate));
}
