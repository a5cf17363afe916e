/** @file Evaluates a saved student: what it finds, beside its teacher and other systems, and what it costs. */
import { writeWhole } from '../common/files.ts';
import type { Watch } from '../common/progress.ts';
import { openDataset } from '../data/open.ts';
import { retentionSentence } from '../evaluation/metrics/compare.ts';
import { cutRun, dropIdenticalIds, isQueryItself, type Run } from '../evaluation/metrics/evaluate.ts';
import { fidelity } from '../evaluation/metrics/fidelity.ts';
import { defaultMetrics, parseMetric } from '../evaluation/metrics/metrics.ts';
import { formatRun, readRun } from '../evaluation/metrics/run-file.ts';
import type { Figures } from '../evaluation/report/figures.ts';
import { cutTo, search } from '../retrieval/exact-search.ts';
import { ScoreCache } from '../teachers/cache/score-cache.ts';
import { differences } from './measure/compare-systems.ts';
import { measureCosts, speedFactor } from './measure/cost-figures.ts';
import { diagnose } from './measure/diagnostics.ts';
import { dtypeFiles, encodeStudentSplit, madeWith, type Vectors } from './measure/encode-split.ts';
import { Ladder } from './measure/evaluation-table.ts';
import { isScoreFile } from './measure/reference-systems.ts';
import { toRun } from './measure/retrieve.ts';
import { rounded } from './measure/run-figures.ts';
import { measureTeacher } from './measure/teacher-evaluation.ts';
import { memorySentence, servingMemory } from './run/memory-budget.ts';
import { defaultCache } from './run/open-teachers.ts';
import { collapse } from './run/warnings.ts';

export interface EvaluateOptions {
  student: string;
  /** Folder of a cross-encoder that re-ranks candidates, or of a dual-encoder; or a file of scores. */
  teacher?: string;
  /** A dual-encoder whose document embeddings the student searches; the student encodes them itself by default. */
  documents?: string;
  data: string;
  split?: string;
  metrics?: readonly string[];
  /** Documents a query that the teacher re-ranks. */
  depth?: number;
  /** What the teacher re-ranks: `student` (what it found), `bm25`, or a run file. */
  candidates?: string;
  /** Files of the checkpoint that are evaluated, the first as the student: names such as fp32, fp16, int8, or all. */
  dtype?: string;
  /** A run file of another system. */
  baseline?: string;
  /** `usearch`: an approximate index is measured beside exact search. */
  index?: string;
  /** Whether models are timed; true by default. */
  cost?: boolean;
  /** Queries that the teacher re-ranks while it is timed. */
  costQueries?: number;
  seed?: number;
  /** Resamples of a bootstrap and flips of a test. */
  samples?: number;
  queryTokens?: number;
  documentTokens?: number;
  cache?: string;
  /** Limit that batches are chosen by, e.g. `4GB`. */
  memory?: string;
  /** Files written: the student's TREC run, the figures, the report. */
  run?: string;
  json?: string;
  html?: string;
}

export interface EvaluateReport extends Figures {
  split: string;
  queries: number;
  /** Student over teacher, a metric: on the same candidates. */
  retention?: Record<string, number>;
  /** Sentences for a person, e.g. `keeps 97.4 % [96.1, 98.6] of the teacher's ndcg@10`. */
  sentences: string[];
}

/** Texts timed one at a time. */
const TIMED = 200;
/** Embeddings that are looked at for collapse. */
const COLLAPSE_SAMPLE = 256;

/** @throws InputError where a model, the data or another file cannot be read, or a metric does not exist */
export async function evaluate(options: EvaluateOptions, given: Watch = {}): Promise<EvaluateReport> {
  const { split = 'test', metrics = defaultMetrics, depth = 100, candidates = 'student', seed = 0 } = options;
  const cuts = metrics.map((m) => parseMetric(m).k).filter(Number.isFinite);
  const reach = Math.max(100, depth, ...cuts);
  const made = await madeWith(options.student, options);
  const dataset = await openDataset(options.data, made.data);
  const qrels = dataset.qrels(split);
  const [first, ...otherFiles] = await dtypeFiles(options.student, options.dtype);
  const servedTeacher = options.teacher && !isScoreFile(options.teacher) ? options.teacher : undefined;
  const watch: Watch = {
    ...given,
    ...(options.memory && {
      memory: await servingMemory(options.memory, [options.student, made.documents, servedTeacher], dataset),
    }),
  };
  const cache = await ScoreCache.open(options.cache ?? defaultCache());
  const ladder = new Ladder({ dataset, split, metrics, seed, samples: options.samples, watch });
  if (options.memory && watch.memory)
    ladder.note(memorySentence(options.memory, watch.memory, dataset.documents.length));
  try {
    // What the student finds by itself.
    const found = async (v: Vectors, dimensions = v.dimensions): Promise<Run> => {
      const cut = (data: Float32Array) => cutTo(dimensions, { dimensions: v.dimensions, data });
      const hits = await search(cut(v.queries), cut(v.documents), dimensions, reach + 1, watch);
      return cutRun(toRun(dataset, v.positions, hits), reach);
    };
    const vectors = await encodeStudentSplit(dataset, split, options.student, first, made, cache, watch);
    const student = ladder.add('student', 'student', await found(vectors));
    const hopeless = [...qrels.values()].filter((grades) => ![...grades.values()].some((g) => g > 0)).length;
    if (hopeless)
      ladder.note(`${hopeless} judged queries have no relevant document and count 0, as trec_eval counts them`);

    // The teacher, another system, other files of the checkpoint.
    const { teacher, costQueries = 5 } = options;
    const asked = { dataset, split, teacher, candidates, depth, reach, costQueries, made, cache };
    const { same, given: listed, timed } = await measureTeacher(ladder, student, vectors, asked, watch);
    if (options.baseline) {
      const other = dropIdenticalIds(await readRun(options.baseline), isQueryItself(dataset));
      const baseline = ladder.add('baseline', `baseline ${options.baseline.split(/[\\/]/).at(-1)}`, other);
      ladder.compare(student, baseline, 'full retrieval');
    }
    const [metric] = metrics;
    const quality = new Map([[first.dtype, student.evaluation.means[metric]]]);
    for (const file of otherFiles) {
      const v = await encodeStudentSplit(dataset, split, options.student, file, made, cache, watch);
      const m = ladder.add('student', `student ${file.dtype}`, await found(v));
      quality.set(file.dtype, m.evaluation.means[metric]);
      ladder.compare(m, student, 'full retrieval');
    }

    // Shorter vectors, cost, an index, what the vectors are like.
    const matryoshka: NonNullable<Figures['matryoshka']> = [];
    for (let n = vectors.dimensions; n >= 16 && matryoshka.length < 5; n = Math.floor(n / 2)) {
      const run = n === vectors.dimensions ? student.run : await found(vectors, n);
      matryoshka.push({ dimensions: n, value: ladder.mean(run, metric) });
    }
    const texts = vectors.positions.slice(0, TIMED).map((q) => dataset.queries.text(q));
    const costing = {
      student: options.student,
      dtype: first.dtype,
      texts,
      maxLength: made.queryTokens,
      timed,
      quality,
    };
    const cost = options.cost === false ? [] : await measureCosts(ladder.systems, costing, watch);
    let index: Figures['index'];
    if (options.index) {
      const { measureIndex } = await import('../retrieval/approximate-search.ts');
      index = await measureIndex(vectors.queries, vectors.documents, vectors.dimensions, { ...watch, k: 10 });
    }
    const diagnosed = diagnose({
      dataset,
      qrels,
      vectors,
      student: same?.student.run ?? student.run,
      teacher: same?.teacher.run,
      seed,
    });
    const { dimensions } = vectors;
    const own = made.documents ? vectors.queries : vectors.documents;
    const collapsed = collapse({ dimensions, data: own.subarray(0, COLLAPSE_SAMPLE * dimensions) });
    if (collapsed) ladder.note(`warning: the student has collapsed: ${collapsed}`);

    const report: EvaluateReport = {
      title: `Evaluation on ${dataset.name}`,
      facts: [
        ['data', `${dataset.name}, split ${split}`],
        ['queries', `${student.evaluation.queryIds.length} judged`],
        ['documents', dataset.documents.length.toLocaleString('en')],
        ['student', `${vectors.dimensions} dimensions, ${first.dtype}, exact search`],
        ...(same
          ? ([
              [
                're-ranked',
                listed ? (candidates === 'student' ? "the teacher's lists" : candidates) : `the student's ${depth}`,
              ],
            ] as [string, string][])
          : []),
      ],
      notes: ladder.notes,
      split,
      queries: student.evaluation.queryIds.length,
      systems: ladder.systems,
      comparisons: ladder.comparisons,
      retention: same && Object.fromEntries(ladder.comparisons[0].rows.map((r) => [r.metric, r.retention.value])),
      sentences: ladder.comparisons
        .filter((c) => c.b.startsWith('teacher'))
        .map((c) => `${retentionSentence(c.rows[0], "the teacher's")} (${c.on})`),
      fidelity: same && fidelity(same.student.run, same.teacher.run),
      differences: same && differences(same.student, same.teacher, dataset, qrels, metric),
      ...diagnosed,
      cost,
      speedFactor: speedFactor(cost, first.dtype),
      index,
      matryoshka,
      perQuery: {
        queryIds: student.evaluation.queryIds,
        systems: Object.fromEntries(ladder.measured.map((m) => [m.name, rounded(m.evaluation.perQuery)])),
      },
    };
    if (options.run) await writeWhole(options.run, formatRun(student.run));
    if (options.json)
      await writeWhole(options.json, `${JSON.stringify({ ...report.systems[0].metrics, ...report })}\n`);
    if (options.html) {
      const { renderHtml } = await import('../evaluation/report/html.ts');
      await writeWhole(options.html, renderHtml(report));
    }
    return report;
  } finally {
    await cache.close();
  }
}
