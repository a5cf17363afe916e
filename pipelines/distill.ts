/** @file The main job: a cross-encoder's knowledge into a dual-encoder, read top to bottom. */
import { createHash } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { canonicalJson, hashParts, writeWhole } from '../common/files.ts';
import type { Watch } from '../common/progress.ts';
import type { Dataset } from '../data/dataset.ts';
import { openDataset } from '../data/open.ts';
import { readScores } from '../data/scores.ts';
import type { TextTokenizer, Tokens } from '../data/tokenizer.ts';
import { evaluateRun, type Run } from '../evaluation/evaluate.ts';
import { losses } from '../losses/index.ts';
import { configWithLayers, writeCheckpoint } from '../students/checkpoint.ts';
import { Encoder } from '../students/encoder.ts';
import { encodeStudent, loadStudent, parameterCount } from '../students/student.ts';
import type { BatchSource } from '../training/examples.ts';
import { StepGraph, type WeightedLoss } from '../training/step-graph.ts';
import { train } from '../training/trainer.ts';
import { type Config, type ConfigInput, type LossConfig, parseConfig } from './config.ts';
import { bm25Run } from './stages/bm25.ts';
import { findCandidates, scoreCandidates } from './stages/candidates.ts';
import { judgedQueries, means, rerank, searchSplit, textsAt, toRun } from './stages/evaluate.ts';
import { makeExamples } from './stages/examples.ts';
import { openTeachers } from './stages/teachers.ts';

/** What a run ends with. */
export interface RunReport {
  checkpoint: string;
  report: string;
  /** Means of the metrics on the test split, a row a system. */
  systems: { name: string; metrics: Record<string, number> }[];
  student: { parameters: number; bytes: number; queryMilliseconds: number };
  training: { steps: number; secondsAStep: number; loss: number; bestStep: number };
  /** Seconds by stage. */
  seconds: Record<string, number>;
  config: Config;
}

const VERSION = '0.1.0';

/**
 * Distils a teacher into a student: reads data, scores, selects, weighs, trains, saves, evaluates, reports.
 *
 * @param options the same object as the YAML file's
 * @throws InputError for a mistake in what was given, FaultError for a fault while running
 */
export async function distill(options: ConfigInput, watch: Watch = {}): Promise<RunReport> {
  const config = parseConfig(options);
  const { splits } = config.data;
  const out = config.output;
  const seconds: Record<string, number> = {};
  const stage = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    watch.signal?.throwIfAborted();
    const started = performance.now();
    const result = await work();
    seconds[name] = (seconds[name] ?? 0) + (performance.now() - started) / 1000;
    return result;
  };
  const note = (text: string): void => watch.onProgress?.({ stage: 'run', done: 0, unit: 'stages', note: text });
  await mkdir(out, { recursive: true });

  // ---- data
  const dataset = await stage('data', () => openDataset(config.data.path as string, { seed: config.seed }));
  note(`${dataset.documents.length} documents, ${dataset.queries.length} queries, splits ${dataset.splits.join(', ')}`);
  for (const text of dataset.notes ?? []) note(text);

  // ---- teacher: what it says of each candidate
  const student = await loadStudent(config.student.model, config.student);
  const { teacher, embedder, close } = await openTeachers(config);
  try {
    const found = await stage('candidates', () => findCandidates(config, dataset, splits.train, embedder, watch));
    const lists = await stage('score', () => scoreCandidates(found, dataset, teacher, watch));
    const { examples, leftOut } = makeExamples(config, dataset, splits.train, lists);
    if (leftOut) note(`${leftOut} queries have no candidate and are left out`);
    note(`${examples.queries.length} training queries with ${examples.documents.length} candidates`);

    // ---- embeddings to match or to inherit
    const matches = (part: 'queries' | 'documents'): boolean =>
      config.losses.some(
        (l) => l.kind === 'embedding-matching' && l.of !== (part === 'queries' ? 'documents' : 'queries'),
      );
    const frozenDocuments = config.student.towers === 'query';
    const wantsDocuments = frozenDocuments || matches('documents');
    const documentEmbeddings = wantsDocuments
      ? await stage('embed', async () => embedder?.embed?.(dataset.documents, 'document', watch))
      : undefined;
    const queryEmbeddings = matches('queries')
      ? await stage('embed', async () =>
          spread(
            await embedder?.embed?.(textsAt(dataset, [...examples.queries]), 'query', watch),
            examples.queries,
            dataset,
          ),
        )
      : undefined;

    // ---- student before training
    const setup = { queryTokens: config.student.queryTokens, documentTokens: config.student.documentTokens };
    const frozen = frozenDocuments ? documentEmbeddings?.data : undefined;
    const tokens = new TokenTable(dataset, student.tokenizer, config);
    const graph = await stage('differentiate', () =>
      StepGraph.create({
        encoder: student.graph,
        pooling: student.pooling,
        normalize: student.normalize,
        losses: config.losses.map(toLoss),
        documentGroups: config.train.documentGroups,
        frozenDocuments: frozenDocuments ? documentEmbeddings?.dimensions : undefined,
        teacherWidth: documentEmbeddings?.dimensions ?? queryEmbeddings?.dimensions,
        session: { threads: config.train.threads },
      }),
    );

    // ---- training
    const source: BatchSource = {
      examples,
      queryTokens: (i) => tokens.query(i),
      documentTokens: (i) => tokens.document(i),
      padId: student.tokenizer.padId,
      teacherQueries: queryEmbeddings,
      teacherDocuments: documentEmbeddings,
      frozenDocuments,
    };
    const n = examples.queries.length;
    const perStep = Math.min(config.train.queries, n);
    const totalSteps = config.train.steps ?? Math.round((config.train.epochs ?? 1) * Math.floor(n / perStep));
    const encoderOf = async (weights: Parameters<typeof encodeStudent>[1]): Promise<Encoder> => {
      const copy = student.graph.clone();
      for (const v of copy.constants) if (v.constant && weights.has(v.name)) v.constant = weights.get(v.name) ?? null;
      return Encoder.of(copy, { ...student, maxLength: setup.documentTokens, hash: '', name: 'the student' });
    };
    const evaluateDev = splits.dev !== null && config.train.evaluateEvery !== null ? splits.dev : undefined;
    const result = await stage('train', () =>
      train(
        graph,
        source,
        {
          queries: perStep,
          candidates: config.train.candidates,
          documentGroups: config.train.documentGroups,
          seed: config.seed,
          schedule: {
            learningRate: config.train.learningRate,
            warmupSteps: config.train.warmupSteps,
            totalSteps,
            finalShare: config.train.finalLearningRate,
          },
          weightDecay: config.train.weightDecay,
          decayNormsAndBiases: config.train.decayNormsAndBiases,
          clipNorm: config.train.clipNorm ?? undefined,
          evaluateEvery: evaluateDev ? (config.train.evaluateEvery ?? undefined) : undefined,
          saveEvery: config.train.saveEvery,
          onNonFinite: config.train.onNonFinite,
        },
        {
          ...watch,
          stateFolder: join(out, 'training'),
          key: hashParts(
            canonicalJson({ ...config, output: '', evaluate: null }),
            dataset.documents.hash,
            dataset.queries.hash,
          ),
          evaluate: evaluateDev
            ? async (weights) => {
                const encoder = await encoderOf(weights);
                try {
                  const { queries, hits } = await searchSplit(
                    dataset,
                    evaluateDev,
                    { encoder, frozen, depth: 10, ...setup },
                    {},
                  );
                  return means(toRun(dataset, queries, hits), dataset, evaluateDev, ['ndcg@10'])['ndcg@10'];
                } finally {
                  await encoder.dispose();
                }
              }
            : undefined,
        },
      ),
    );
    await graph.release();

    // ---- checkpoint
    const checkpoint = join(out, 'checkpoint');
    const model = encodeStudent(student.graph, result.weights);
    await stage('save', () =>
      writeCheckpoint(checkpoint, {
        model,
        tokenizerFrom: config.student.model,
        config: configWithLayers(student.folder.config, student.layers?.length),
        pooling: student.pooling,
        normalize: student.normalize,
        dimensions: documentEmbeddings?.dimensions ?? (Number(student.folder.config.hidden_size) || 0),
        maxLength: Math.max(setup.queryTokens, setup.documentTokens),
        provenance: {
          version: VERSION,
          config,
          data: { documents: dataset.documents.hash, queries: dataset.queries.hash },
          teacher: teacher?.key,
          embedder: embedder?.key,
          model: createHash('sha256').update(model).digest('hex'),
          training: { steps: totalSteps, bestStep: result.bestStep, bestScore: result.bestScore },
        },
        card: card(config, dataset),
      }),
    );

    // ---- evaluation of what was saved
    const { metrics, depth } = config.evaluate;
    const systems: RunReport['systems'] = [];
    let studentRun: Run | undefined;
    const evaluated = async (name: string, encoder: Encoder): Promise<void> => {
      const { queries, hits } = await searchSplit(
        dataset,
        splits.test,
        { encoder, frozen, depth: Math.max(100, depth), ...setup },
        watch,
      );
      studentRun = toRun(dataset, queries, hits);
      systems.push({ name, metrics: means(studentRun, dataset, splits.test, metrics) });
    };
    await stage('evaluate', async () => {
      if (config.evaluate.before) {
        const before = await encoderOf(new Map());
        await evaluated('student before training', before);
        await before.dispose();
      }
    });
    if (config.evaluate.bm25)
      await stage('bm25', async () => {
        const run = await bm25Run(dataset, splits.test, Math.max(100, depth), watch);
        systems.push({ name: 'BM25', metrics: means(run, dataset, splits.test, metrics) });
      });
    const encoder = await Encoder.load(checkpoint);
    await stage('evaluate', () => evaluated('student', encoder));
    const queryMilliseconds = await latency(encoder, dataset, splits.test, setup.queryTokens);
    await encoder.dispose();
    if (config.evaluate.teacher)
      await stage('evaluate teacher', async () => {
        const run =
          config.teacher?.kind === 'scores'
            ? await givenRun(config, dataset)
            : teacher && studentRun && (await rerank(dataset, cut(studentRun, depth), teacher, watch));
        if (run)
          systems.push({ name: 'teacher', metrics: evaluateRun(run, dataset.qrels(splits.test), metrics).means });
      });

    // ---- report
    const report = join(out, 'report.json');
    const summary: RunReport = {
      checkpoint,
      report,
      systems,
      student: { parameters: parameterCount(student.graph), bytes: model.length, queryMilliseconds },
      training: {
        steps: totalSteps,
        secondsAStep: result.stepSeconds,
        loss: result.log.at(-1)?.loss ?? Number.NaN,
        bestStep: result.bestStep,
      },
      seconds,
      config,
    };
    await writeWhole(
      report,
      `${JSON.stringify({ ...summary, log: result.log, evaluations: result.evaluations }, null, 1)}\n`,
    );
    await rm(join(out, 'training'), { recursive: true, force: true });
    return summary;
  } finally {
    await close();
  }
}

/** Token ids of the data set's texts, made when first asked for and kept. */
class TokenTable {
  private readonly queries = new Map<number, Tokens>();
  private readonly documents = new Map<number, Tokens>();
  private readonly dataset: Dataset;
  private readonly tokenizer: TextTokenizer;
  private readonly config: Config;

  constructor(dataset: Dataset, tokenizer: TextTokenizer, config: Config) {
    this.dataset = dataset;
    this.tokenizer = tokenizer;
    this.config = config;
  }

  query(i: number): Tokens {
    return this.kept(this.queries, i, () =>
      this.tokenizer.encode(this.dataset.queries.text(i), this.config.student.queryTokens),
    );
  }

  document(i: number): Tokens {
    const limit = this.config.train.documentTokens ?? this.config.student.documentTokens;
    return this.kept(this.documents, i, () => this.tokenizer.encode(this.dataset.documents.text(i), limit));
  }

  private kept(table: Map<number, Tokens>, i: number, make: () => Tokens): Tokens {
    let tokens = table.get(i);
    if (!tokens) {
      tokens = make();
      table.set(i, tokens);
    }
    return tokens;
  }
}

function toLoss(l: LossConfig): WeightedLoss {
  const { kind, weight, ...options } = l;
  return { loss: (losses[kind] as (options: object) => WeightedLoss['loss'])(options), weight };
}

/** Embeddings of some queries, by position in the whole table. */
function spread(
  embedded: { dimensions: number; data: Float32Array } | undefined,
  queries: Int32Array,
  dataset: Dataset,
): { dimensions: number; data: Float32Array } | undefined {
  if (!embedded) return undefined;
  const { dimensions, data } = embedded;
  const all = new Float32Array(dataset.queries.length * dimensions);
  for (const [i, q] of queries.entries()) all.set(data.subarray(i * dimensions, (i + 1) * dimensions), q * dimensions);
  return { dimensions, data: all };
}

const cut = (run: Run, depth: number): Run =>
  new Map(
    [...run].map(([q, { ids, scores }]) => [
      q,
      { ids: ids.slice(0, depth), scores: Array.from(scores).slice(0, depth) },
    ]),
  );

/** The teacher's run where its scores come as a file. */
async function givenRun(config: Config, dataset: Dataset): Promise<Run | undefined> {
  const file = config.teacher?.kind === 'scores' ? config.teacher.files.test : undefined;
  if (!file) return undefined;
  const lists = await readScores(file, dataset.queries, dataset.documents);
  return new Map(
    Array.from(lists.queries, (q, i) => [
      dataset.queries.ids[q],
      {
        ids: Array.from(
          lists.documents.subarray(lists.offsets[i], lists.offsets[i + 1]),
          (d) => dataset.documents.ids[d],
        ),
        scores: lists.scores.subarray(lists.offsets[i], lists.offsets[i + 1]),
      },
    ]),
  );
}

/** Median milliseconds from a query's text to its vector, one at a time. */
async function latency(encoder: Encoder, dataset: Dataset, split: string, maxLength: number): Promise<number> {
  const times: number[] = [];
  for (const q of judgedQueries(dataset, split).slice(0, 60)) {
    const started = performance.now();
    await encoder.encode([dataset.queries.text(q)], { maxLength });
    times.push(performance.now() - started);
  }
  return times.slice(10).sort((a, b) => a - b)[Math.floor((times.length - 10) / 2)] ?? Number.NaN;
}

function card(config: Config, dataset: Dataset): string {
  const layers = config.student.layers ? `, layers ${config.student.layers.join(', ')}` : '';
  return `---
library_name: sentence-transformers
tags: [sentence-similarity, feature-extraction, onnx, transformers.js, knowledge-distillation]
---

# Student distilled on ${dataset.name}

A dual-encoder made by onnx-distill ${VERSION} from \`${config.student.model}\`${layers}${config.teacher && 'model' in config.teacher ? ` with the teacher \`${config.teacher.model}\`` : ''}.
Losses: ${config.losses.map((l) => `${l.weight} x ${l.kind}`).join(' + ')}. What made it, with hashes, is in distill.json.
`;
}
