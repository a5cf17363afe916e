/** @file The demo: generated data, a teacher trained on its labels, and its distillation. */
import { join } from 'node:path';
import { stringify } from 'yaml';
import { InputError } from '../common/errors.ts';
import { writeWhole } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import type { ConfigInput } from '../config/config.ts';
import { distill, type RunReport } from '../pipelines/distill.ts';
import { type TeacherReport, trainTeacher } from '../teachers/jobs/train-teacher.ts';
import { makeWorld, type World } from './world.ts';

/** Where the demo runs and how much of it. */
export interface DemoOptions {
  /** Where everything is left. */
  folder?: string;
  /** A smaller world and shorter training: under 40 seconds on two cores. */
  quick?: boolean;
  seed?: number;
  /** Limit that batches are chosen by, e.g. `4GB`. */
  memory?: string;
}

/** What the demo measured and where it is. */
export interface DemoReport {
  folder: string;
  /** Test figures: BM25, the student trained on labels alone, the distilled student, the teacher. */
  systems: { name: string; metrics: Record<string, number> }[];
  teacher: TeacherReport;
  labels: RunReport;
  distilled: RunReport;
  seconds: number;
}

interface Size {
  world: { documents: number; train: number; dev: number; test: number };
  teacherSteps: number;
  /** Queries a step of the teacher, each with eight documents. */
  teacherQueries: number;
  studentSteps: number;
  /** Candidates of a training query, and of a test query for the teacher. */
  candidates: number;
  depth: number;
}

const full: Size = {
  world: { documents: 1200, train: 3000, dev: 100, test: 300 },
  teacherSteps: 600,
  teacherQueries: 32,
  studentSteps: 400,
  candidates: 24,
  depth: 100,
};
const quickSize: Size = {
  world: { documents: 600, train: 1500, dev: 50, test: 120 },
  teacherSteps: 220,
  teacherQueries: 32,
  studentSteps: 120,
  candidates: 10,
  depth: 30,
};

const METRICS = ['ndcg@10', 'mrr@10', 'recall@100'];

/**
 * Makes the world, trains the teacher on its labels and distils it, exactly as over a user's data. All of it is left in the
 * folder, with the config that repeats the distillation.
 */
export async function demo(options: DemoOptions = {}, watch: RunControl = {}): Promise<DemoReport> {
  const { folder = 'demo', quick = false, seed = 0, memory } = options;
  if (!Number.isInteger(seed) || seed < 0)
    throw new InputError({ code: 'demo.seed', subject: `seed ${seed}`, expected: 'a whole number from 0 on' });
  const size = quick ? quickSize : full;
  const started = performance.now();
  const note = (text: string): void => watch.onProgress?.({ stage: 'demo', done: 0, unit: 'stages', note: text });

  note(`world: ${size.world.documents} listings, ${size.world.train} searches with one labelled listing each`);
  await writeWorld(await makeWorld({ seed, ...size.world }), join(folder, 'data'));

  note('teacher: a cross-encoder trained on the labels');
  const teacher = await trainTeacher(teacherOptions(folder, size, seed), watch);

  note('student on labels alone');
  const labels = await distill({ ...labelsOptions(folder, size, seed), memory }, watch);

  note('student distilled from the teacher');
  const config = { ...distillOptions(folder, size, seed), ...(memory && { memory }) };
  await writeWhole(join(folder, 'distill.yaml'), distillYaml(config));
  const distilled = await distill(config, watch);

  const of = (report: RunReport, name: string): Record<string, number> =>
    report.systems.find((s) => s.name === name)?.metrics ?? {};
  return {
    folder,
    systems: [
      { name: 'BM25', metrics: of(distilled, 'BM25') },
      { name: 'student, labels alone', metrics: of(labels, 'student') },
      { name: 'student, distilled', metrics: of(distilled, 'student') },
      { name: 'teacher', metrics: of(distilled, 'teacher') },
    ],
    teacher,
    labels,
    distilled,
    seconds: (performance.now() - started) / 1000,
  };
}

const teacherOptions = (folder: string, size: Size, seed: number): Parameters<typeof trainTeacher>[0] => ({
  data: join(folder, 'data'),
  output: join(folder, 'teacher'),
  seed,
  fresh: { hidden: 64, layers: 2, heads: 4, intermediate: 128, maxLength: 64, vocabulary: 512 },
  candidates: { count: 32, random: 16 },
  // Measured over seeds: with a share of bce some fresh teachers are still on their first plateau after 400 steps.
  losses: { kl: 1 },
  train: {
    steps: size.teacherSteps,
    batchSize: size.teacherQueries,
    candidates: 8,
    learningRate: 2e-3,
    warmupSteps: 50,
    evaluateEvery: null,
  },
});

/** What both students have in common: the model, the candidates, the steps. */
const common = (folder: string, size: Size, seed: number) =>
  ({
    seed,
    cache: join(folder, 'cache'),
    data: { path: join(folder, 'data') },
    student: {
      fresh: { hidden: 32, layers: 1, heads: 4, intermediate: 64, maxLength: 32, vocabulary: 512 },
      queryTokens: 32,
      documentTokens: 32,
    },
    candidates: { source: 'bm25', count: size.candidates },
    train: {
      steps: size.studentSteps,
      batchSize: 32,
      candidates: 8,
      learningRate: 2e-3,
      provider: 'cpu',
      evaluateEvery: Math.floor(size.studentSteps / 4),
    },
    evaluate: { metrics: METRICS, depth: size.depth, before: false },
  }) satisfies Partial<ConfigInput>;

const labelsOptions = (folder: string, size: Size, seed: number): ConfigInput => ({
  ...common(folder, size, seed),
  output: join(folder, 'labels'),
  losses: [{ kind: 'info-nce' }],
});

const distillOptions = (folder: string, size: Size, seed: number): ConfigInput => ({
  ...common(folder, size, seed),
  output: join(folder, 'student'),
  teacher: { kind: 'cross-encoder', model: join(folder, 'teacher') },
  losses: [{ kind: 'info-nce' }, { kind: 'kl' }],
});

/** The config as a file: paths that are read are relative to it. */
function distillYaml(config: ConfigInput): string {
  const teacher = { kind: 'cross-encoder', model: 'teacher' };
  const file = { ...config, cache: 'cache', data: { path: 'data' }, teacher };
  return `# The distillation of \`distill demo\`: distill run FILE repeats it; change what you like.\n${stringify(file)}`;
}

export async function writeWorld(world: World, folder: string): Promise<void> {
  const table = (rows: readonly { id: string; text: string }[]): string =>
    rows.map(({ id, text }) => `${JSON.stringify({ _id: id, text })}\n`).join('');
  await writeWhole(join(folder, 'corpus.jsonl'), table(world.documents));
  await writeWhole(join(folder, 'queries.jsonl'), table(world.queries));
  for (const [split, qrels] of Object.entries(world.qrels)) {
    const rows = [...qrels].flatMap(([q, documents]) => documents.map((d) => `${q}\t${d}\t1\n`));
    await writeWhole(join(folder, 'qrels', `${split}.tsv`), `query-id\tcorpus-id\tscore\n${rows.join('')}`);
  }
}
