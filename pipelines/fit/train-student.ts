/** @file From examples and targets to trained weights. */
import type { TextTokenizer, Tokens } from '../../data/tokenizer.ts';
import { Random } from '../../math/random.ts';
import type { Encoder } from '../../models/encoder.ts';
import { positionsOf } from '../../models/model-folder.ts';
import type { Weights } from '../../students/student.ts';
import { type BatchSource, makeBatch } from '../../training/batches/dual-encoder-batch.ts';
import { train } from '../../training/trainer.ts';
import type { StateKey } from '../../training/training-state.ts';
import type { Config } from '../config/config.ts';
import { toWeighting } from '../config/methods.ts';
import { CHOICE_METRIC, drawSample, encoderSearcher, means, retrieve } from '../measure/retrieve.ts';
import type { Targets } from '../prepare/embeddings.ts';
import { encoderOf } from '../prepare/student-scores.ts';
import type { Lesson, Trained } from '../prepare/types.ts';
import type { Job } from '../run/context.ts';
import { warnOfSmallLosses } from '../run/warnings.ts';
import { type Peer, trainTogether } from './co-teaching.ts';
import { openLearner } from './open-learner.ts';
import { pairVectors } from './pair-embeddings.ts';
import { refresher } from './refresh-negatives.ts';
import { weigher } from './reweight.ts';
import { stepChunk } from './step-memory.ts';
import { topicOrder } from './topic-batches.ts';
import { dropState, finishedTraining, keepTraining, trainingFolder } from './trained-weights.ts';
import { keptExamples, trainingKey } from './training-key.ts';

export interface FitOptions {
  /** Where training state is kept under the output folder, and a part of its key. */
  name?: string;
  /** Weights to begin with, in place of the student's own. */
  start?: Weights;
  /** Runs before a step, with the weights as they are: may renew the examples' scores and weights in place. */
  beforeStep?(step: number, weights: () => Promise<Weights>): Promise<void>;
}

/** Trains a student on its lesson, going on from saved state where there is some; a finished training is not done again. */
export async function trainStudent(job: Job, lesson: Lesson, options: FitOptions = {}): Promise<Trained> {
  const { student } = lesson;
  const key = trainingKey(job, lesson, options.name, options.start);
  const finished = await finishedTraining(job, student, key, options.name);
  if (finished) {
    job.note(`the training of an earlier run is used${options.name ? `: ${options.name}` : ''}`);
    await dropState(job, options.name);
    return finished;
  }
  job.did('training', true);
  const trained = toWeighting(job.config.weighting).needs.includes('peer')
    ? await trainTogether(job, lesson, key, options.name ?? '', (own, of, name, peer) =>
        trainAnew(own, of, trainingKey(own, of, name, options.start), { ...options, name }, peer),
      )
    : await trainAnew(job, lesson, key, options);
  await keepTraining(job, student, key, trained, options.name);
  return trained;
}

async function trainAnew(job: Job, lesson: Lesson, key: StateKey, options: FitOptions, peer?: Peer): Promise<Trained> {
  const { config, frozenDocuments, dataset, watch } = job;
  const { student, examples, targets, extra } = lesson;
  const { train: settings } = config;
  const reliability = job.needs.has('reliability');
  const draws = Math.max(0, ...config.losses.map((l) => (l.kind === 'rank-distil' ? (l.draws ?? 0) : 0)));
  const perQuery = frozenDocuments ? 1 : 1 + settings.candidates;
  const texts = Math.min(settings.batchSize, examples.queries.length) * perQuery + ((extra && settings.spans) || 0);
  const chunk = await stepChunk(job, student, texts);
  const embedded = targets.documents?.dimensions ?? targets.queries?.dimensions;
  const pairs = await pairVectors(job, lesson, embedded);
  const learner = await job.stage('differentiate', () =>
    openLearner(
      job,
      {
        encoder: student.graph,
        pooling: student.pooling,
        normalize: student.normalize,
        losses: job.losses,
        given: [
          ...(reliability ? ['reliability' as const] : []),
          ...(draws ? ['gumbel' as const] : []),
          ...(pairs ? (['pairQueries', 'pairDocuments'] as const) : []),
        ],
        frozenDocuments: frozenDocuments ? targets.documents?.dimensions : undefined,
        teacherWidth: embedded ?? pairs?.width,
        pairWidth: pairs?.width,
        extraTexts: Boolean(extra),
        groups: settings.groups,
        gradCacheChunk: settings.gradCacheChunk,
        dropout: settings.dropout,
        positions: positionsOf(student.folder.config),
        seed: config.seed,
      },
      {
        weightDecay: settings.weightDecay,
        decayNormsAndBiases: settings.decayNormsAndBiases,
        clipNorm: settings.clipNorm ?? undefined,
      },
      chunk,
    ).catch(async (error: unknown) => {
      await pairs?.close();
      throw error;
    }),
  );
  try {
    if (options.start) await learner.setWeights(options.start);
    const kept = (weights: Weights): Weights =>
      // Where documents are encoded too, the projection only serves the losses.
      frozenDocuments ? weights : new Map([...weights].filter(([name]) => name !== 'projection'));
    const initial: Weights = kept(await learner.weights());
    const tokens = new TokenTable(lesson, student.tokenizer, job);
    const source: BatchSource = {
      examples,
      queryTokens: (i) => tokens.query(i),
      documentTokens: (i) => tokens.document(i),
      padId: student.tokenizer.padId,
      teacherQueries: targets.queries,
      teacherDocuments: targets.documents,
      frozenDocuments,
      extra,
      order: await topicOrder(job, lesson),
    };
    const n = examples.queries.length;
    const perStep = Math.min(settings.batchSize, n);
    const totalSteps = stepsOf(config, n);
    const weigh = await weigher(job, lesson, Math.max(1, Math.floor(n / perStep)), peer);
    const refresh = refresher(job, lesson);
    const batchOptions = {
      queries: perStep,
      candidates: settings.candidates,
      documentGroups: settings.documentGroups,
      draws,
      extraTexts: extra && (settings.spans ?? undefined),
      seed: config.seed,
    };
    const { dev } = config.data.splits;
    const evaluates = dev !== null && settings.evaluateEvery !== null;
    const result = await job.stage('train', () =>
      train<ReturnType<typeof makeBatch>>(
        learner,
        {
          draw(number) {
            const batch = makeBatch(source, number, batchOptions);
            return pairs ? pairs.addTo(batch) : batch;
          },
          ids: ({ exampleIds }) => exampleIds.map((e) => dataset.queries.ids[examples.queries[e]]),
          *arrays({ arrays, documentEmbeddings, extra: texts, weights }) {
            const read = job.needs as ReadonlySet<string>;
            for (const [name, array] of Object.entries(arrays))
              if (array && read.has(name)) yield [name, array.data as Float32Array];
            if (documentEmbeddings) yield ['documents', documentEmbeddings.data as Float32Array];
            if (texts) yield ['teacherExtra', texts.embeddings.data as Float32Array];
            yield ['weights', weights.data as Float32Array];
          },
        },
        {
          terms: config.losses.map((l) => l.kind),
          schedule: {
            learningRate: settings.learningRate,
            warmupSteps: settings.warmupSteps,
            totalSteps,
            finalShare: settings.finalLearningRate,
          },
          evaluateEvery: evaluates ? (settings.evaluateEvery ?? undefined) : undefined,
          saveEvery: settings.saveEvery,
          accumulate: settings.accumulate,
          onNonFinite: settings.onNonFinite,
        },
        {
          ...watch,
          stateFolder: trainingFolder(config.output, options.name ?? ''),
          key,
          kept: keptExamples(examples),
          async beforeStep(step, weights) {
            await options.beforeStep?.(step, weights);
            await refresh?.(step, weights);
            await weigh?.(step, weights);
          },
          onFirstSteps: (log) => warnOfSmallLosses(config.losses, log, job.warn),
          evaluate: evaluates
            ? async (weights) => {
                const encoder = await encoderOf(job, student, kept(weights));
                try {
                  return await devScore(job, encoder, dev as string, targets);
                } finally {
                  await encoder.dispose();
                }
              }
            : undefined,
        },
      ),
    );
    if (result.skipped)
      job.warn(
        'train.skipped',
        `${result.skipped} of ${totalSteps} steps are left out: their loss or gradient was not finite`,
      );
    return { ...result, weights: kept(result.weights), initial, steps: totalSteps };
  } finally {
    await learner.release();
    await pairs?.close();
  }
}

/** Steps that training on n queries takes. */
export function stepsOf({ train: { steps, epochs, batchSize, accumulate } }: Config, n: number): number {
  const batches = Math.floor(n / Math.min(batchSize, n));
  return steps ?? Math.max(1, Math.round(((epochs ?? 1) * batches) / accumulate));
}

/** nDCG@10 of the dev split, searched among all documents or, besides the relevant ones, as many as the config says. */
async function devScore(
  { config, dataset, watch, frozenDocuments }: Job,
  encoder: Encoder,
  split: string,
  targets: Targets,
) {
  const among = config.train.devDocuments;
  const random = Random.of(0, 'dev documents');
  const sample = among === undefined ? undefined : drawSample(dataset, split, random, (relevant) => relevant + among);
  sample?.documents.sort();
  const searcher = encoderSearcher(encoder, config.student, frozenDocuments ? targets.documents : undefined);
  const { run } = await retrieve(searcher, { dataset, split, depth: 10, sample }, { ...watch, onProgress: undefined });
  return means(run, dataset, split, [CHOICE_METRIC])[CHOICE_METRIC];
}

/** Token ids of the lesson's texts, made when first asked for and kept. */
class TokenTable {
  private readonly queries = new Map<number, Tokens>();
  private readonly documents = new Map<number, Tokens>();
  private readonly lesson: Lesson;
  private readonly tokenizer: TextTokenizer;
  private readonly job: Job;
  private readonly positions: number;

  constructor(lesson: Lesson, tokenizer: TextTokenizer, job: Job) {
    this.lesson = lesson;
    this.tokenizer = tokenizer;
    this.job = job;
    this.positions = positionsOf(lesson.student.folder.config);
  }

  query(i: number): Tokens {
    const { dataset, student } = this.lesson;
    return kept(this.queries, i, () =>
      student.queryTokens(dataset.queries.text(i), Math.min(this.job.config.student.queryTokens, this.positions)),
    );
  }

  document(i: number): Tokens {
    const { train: settings, student } = this.job.config;
    const limit = Math.min(settings.documentTokens ?? student.documentTokens, this.positions);
    return kept(this.documents, i, () => this.tokenizer.encode(this.lesson.dataset.documents.text(i), limit));
  }
}

function kept(table: Map<number, Tokens>, i: number, make: () => Tokens): Tokens {
  let tokens = table.get(i);
  if (!tokens) {
    tokens = make();
    table.set(i, tokens);
  }
  return tokens;
}
