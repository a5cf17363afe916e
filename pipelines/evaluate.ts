/** @file Evaluates a saved student: what it finds, beside its teacher and other systems, and what it costs. */
import { writeWhole } from '../common/files.ts';
import type { Watch } from '../common/progress.ts';
import { openDataset } from '../data/open.ts';
import { retentionSentence } from '../evaluation/compare.ts';
import { cutRun, dropIdenticalIds, evaluateRun, isQueryItself, type Run } from '../evaluation/evaluate.ts';
import { fidelity } from '../evaluation/fidelity.ts';
import { defaultMetrics, parseMetric } from '../evaluation/metrics.ts';
import type { Figures, SystemFigures } from '../evaluation/report/figures.ts';
import { formatRun, readRun } from '../evaluation/run-file.ts';
import { search } from '../evaluation/search.ts';
import { ScoreCache } from '../teachers/cache.ts';
import { compare, differences, type Measured, rerankByVectors } from './stages/against.ts';
import { type CostJob, measureCost } from './stages/cost.ts';
import { diagnose } from './stages/diagnose.ts';
import { rerank, toRun } from './stages/evaluate.ts';
import { memorySentence, servingMemory } from './stages/memory.ts';
import { candidateRun, isScoreFile, openTeacher, scoresAsRun } from './stages/references.ts';
import { rounded } from './stages/run-figures.ts';
import { dtypeFiles, encodeStudentSplit, madeWith, prefix, type Vectors } from './stages/student-vectors.ts';
import { defaultCache } from './stages/teachers.ts';
import { collapse } from './stages/warnings.ts';

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
  const resampling = { seed, samples: options.samples };
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
  const note = (text: string): void => {
    notes.push(text);
    watch.onProgress?.({ stage: 'evaluate', done: 0, unit: 'systems', note: text });
  };
  const notes: string[] = [];
  if (options.memory && watch.memory) note(memorySentence(options.memory, watch.memory, dataset.documents.length));
  const itself = isQueryItself(dataset);
  const measured = (name: string, run: Run): Measured => ({ name, run, evaluation: evaluateRun(run, qrels, metrics) });
  const systems: SystemFigures[] = [];
  const add = (role: SystemFigures['role'], m: Measured): Measured => {
    systems.push({ name: m.name, role, metrics: m.evaluation.means });
    all.push(m);
    return m;
  };
  const all: Measured[] = [];
  const comparisons: NonNullable<Figures['comparisons']> = [];
  try {
    // ---- what the student finds by itself
    const found = async (v: Vectors, dimensions = v.dimensions): Promise<Run> => {
      const cut = (x: Float32Array) => (dimensions === v.dimensions ? x : prefix(x, v.dimensions, dimensions));
      const hits = await search(cut(v.queries), cut(v.documents), dimensions, reach + 1, watch);
      return cutRun(toRun(dataset, v.positions, hits), reach);
    };
    const vectors = await encodeStudentSplit(dataset, split, options.student, first, made, cache, watch);
    const student = add('student', measured('student', await found(vectors)));
    const hopeless = [...qrels.values()].filter((grades) => ![...grades.values()].some((g) => g > 0)).length;
    if (hopeless) note(`${hopeless} judged queries have no relevant document and count 0, as trec_eval counts them`);

    // ---- the teacher, and the student on the same candidates
    let same: { student: Measured; teacher: Measured } | undefined;
    let given: Run | undefined;
    const { teacher: path } = options;
    if (candidates !== 'student' && !(path && isScoreFile(path))) {
      const source = await candidateRun(candidates, dataset, split, depth, watch);
      given = dropIdenticalIds(source.run, itself);
      add('other', measured(source.name, given));
    }
    const onCandidates = (run: Run): Run => rerankByVectors(run, dataset, vectors);
    const timed: CostJob[] = [];
    if (path && isScoreFile(path)) {
      given = dropIdenticalIds(await scoresAsRun(path, dataset), itself);
      same = {
        teacher: add('teacher', measured('teacher', given)),
        student: add('student', measured("student on the teacher's candidates", onCandidates(given))),
      };
    } else if (path) {
      const opened = await openTeacher(path, made.teacher);
      const teacher = cache.wrap(opened);
      try {
        const pool = given ?? cutRun(student.run, depth);
        if (opened.kind === 'dual-encoder' && teacher.embed) {
          const texts = vectors.positions.map((q) => dataset.queries.text(q));
          const q = await teacher.embed(texts, 'query', watch);
          const d = await teacher.embed(dataset.documents, 'document', watch);
          const hits = await search(q.data, d.data, q.dimensions, reach + 1, watch);
          const full = add('teacher', measured('teacher', cutRun(toRun(dataset, vectors.positions, hits), reach)));
          comparisons.push(compare(student, full, 'full retrieval', resampling));
        }
        const name = given ? `on ${all.at(1)?.name}'s candidates` : "on the student's candidates";
        same = {
          teacher: add('teacher', measured(`teacher ${name}`, await rerank(dataset, pool, teacher, watch))),
          student: given ? add('student', measured(`student ${name}`, onCandidates(pool))) : measured('student', pool),
        };
        if (opened.kind === 'cross-encoder')
          timed.push({
            name: 'teacher',
            kind: 'cross-encoder',
            folder: path,
            lists: [...pool].slice(0, options.costQueries ?? 5).map(([query, { ids }]) => ({
              query: dataset.queries.text(dataset.queries.indexOf(query) as number),
              documents: ids
                .slice(0, depth)
                .map((id) => dataset.documents.text(dataset.documents.indexOf(id) as number)),
            })),
          });
      } finally {
        await opened.dispose();
      }
    }
    if (same) {
      comparisons.unshift(compare(same.student, same.teacher, 'the same candidates', resampling));
      if (given) comparisons.push(compare(student, same.teacher, 'full retrieval', resampling));
      const ceiling = evaluateRun(given ?? student.run, qrels, [`recall@${depth}`]).means[`recall@${depth}`];
      note(`the teacher's candidates hold ${(100 * ceiling).toFixed(1)} % of the relevant documents: its ceiling`);
    }
    if (options.baseline) {
      const other = dropIdenticalIds(await readRun(options.baseline), itself);
      const baseline = add('baseline', measured(`baseline ${options.baseline.split(/[\\/]/).at(-1)}`, other));
      comparisons.push(compare(student, baseline, 'full retrieval', resampling));
    }

    // ---- other files of the checkpoint, shorter vectors
    const quality = new Map([[first.dtype, student.evaluation.means[metrics[0]]]]);
    for (const file of otherFiles) {
      const v = await encodeStudentSplit(dataset, split, options.student, file, made, cache, watch);
      const m = add('student', measured(`student ${file.dtype}`, await found(v)));
      quality.set(file.dtype, m.evaluation.means[metrics[0]]);
      comparisons.push(compare(m, student, 'full retrieval', resampling));
    }
    const matryoshka: NonNullable<Figures['matryoshka']> = [];
    for (let n = vectors.dimensions; n >= 16 && matryoshka.length < 5; n = Math.floor(n / 2))
      matryoshka.push({
        dimensions: n,
        value: evaluateRun(n === vectors.dimensions ? student.run : await found(vectors, n), qrels, [metrics[0]]).means[
          metrics[0]
        ],
      });

    // ---- cost
    const cost: NonNullable<Figures['cost']> = [];
    if (options.cost !== false) {
      const texts = vectors.positions.slice(0, TIMED).map((q) => dataset.queries.text(q));
      const encoders = (await dtypeFiles(options.student, 'all')).map(
        ({ dtype, file }): CostJob => ({
          name: `student ${dtype}`,
          kind: 'encoder',
          folder: options.student,
          file,
          texts,
          maxLength: made.queryTokens,
        }),
      );
      for (const [i, job] of [...encoders, ...timed].entries()) {
        watch.onProgress?.({ stage: 'cost', done: i, total: encoders.length + timed.length, unit: 'models' });
        const measuredCost = await measureCost(job, watch.signal);
        cost.push({ ...measuredCost, quality: quality.get(job.name.replace('student ', '')) });
      }
      for (const system of systems) {
        const own = cost.find((c) =>
          system.role === 'teacher'
            ? c.role === 'teacher'
            : system.role === 'student' &&
              c.name === (/^student (fp|int|q)\d+$/.test(system.name) ? system.name : `student ${first.dtype}`),
        );
        if (own) Object.assign(system, { bytes: own.bytes, queryMilliseconds: own.p50 });
      }
    }
    const [slow, quick] = [
      cost.find((c) => c.role === 'teacher'),
      cost.find((c) => c.name === `student ${first.dtype}`),
    ];
    let index: Figures['index'];
    if (options.index) {
      const { measureIndex } = await import('../evaluation/ann.ts');
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
    if (collapsed) note(`warning: the student has collapsed: ${collapsed}`);

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
                given ? (candidates === 'student' ? "the teacher's lists" : candidates) : `the student's ${depth}`,
              ],
            ] as [string, string][])
          : []),
      ],
      notes,
      split,
      queries: student.evaluation.queryIds.length,
      systems,
      comparisons,
      retention: same && Object.fromEntries(comparisons[0].rows.map((r) => [r.metric, r.retention.value])),
      sentences: comparisons
        .filter((c) => c.b.startsWith('teacher'))
        .map((c) => `${retentionSentence(c.rows[0], "the teacher's")} (${c.on})`),
      fidelity: same && fidelity(same.student.run, same.teacher.run),
      differences: same && differences(same.student, same.teacher, dataset, qrels, metrics[0]),
      ...diagnosed,
      cost,
      speedFactor: slow && quick && slow.p50 / quick.p50,
      index,
      matryoshka,
      perQuery: {
        queryIds: student.evaluation.queryIds,
        systems: Object.fromEntries(all.map((m) => [m.name, rounded(m.evaluation.perQuery)])),
      },
    };
    if (options.run) await writeWhole(options.run, formatRun(student.run));
    if (options.json) await writeWhole(options.json, `${JSON.stringify({ ...systems[0].metrics, ...report })}\n`);
    if (options.html) {
      const { renderHtml } = await import('../evaluation/report/html.ts');
      await writeWhole(options.html, renderHtml(report));
    }
    return report;
  } finally {
    await cache.close();
  }
}
