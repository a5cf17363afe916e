/** @file Evaluates a saved student: what it finds compared with its teacher and other systems, and what it costs. */
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import { openAsRun, splitFor } from '../data/open.ts';
import { computeFile, onCpuNote } from '../engine/runtime/provider.ts';
import { collapse } from '../evaluation/diagnostics/warnings.ts';
import { retentionSentence } from '../evaluation/metrics/compare.ts';
import { cutRun } from '../evaluation/metrics/evaluate.ts';
import { fidelity } from '../evaluation/metrics/fidelity.ts';
import { defaultMetrics } from '../evaluation/metrics/metrics.ts';
import { readRun } from '../evaluation/metrics/run-file.ts';
import type { Figures } from '../evaluation/report/figures.ts';
import { sampleNotes } from '../evaluation/report/per-query.ts';
import { differences } from '../evaluation/systems/compare-systems.ts';
import { measureCosts, speedFactor } from '../evaluation/systems/cost-figures.ts';
import { calibrationNotes, diagnose } from '../evaluation/systems/diagnostics.ts';
import { EvaluationTable } from '../evaluation/systems/evaluation-table.ts';
import { evaluateLate } from '../evaluation/systems/late/evaluate-late.ts';
import { beginningOf } from '../evaluation/systems/model-cost.ts';
import { candidateRun, isScoreFile } from '../evaluation/systems/reference-systems.ts';
import { byPrefix, encoderSearcher, retrieve } from '../evaluation/systems/retrieve.ts';
import { measureTeacher } from '../evaluation/systems/teacher-evaluation.ts';
import { Encoder } from '../models/encoder.ts';
import { readModelFolder } from '../models/model-folder.ts';
import {
  type DTypeFile,
  deviceOf,
  dtypeFiles,
  inheritedDocuments,
  readProvenance,
} from '../serving/encoder/checkpoint.ts';
import { isLateFolder } from '../students/late/late-folder.ts';
import { defaultCache, ScoreCache } from '../teachers/cache/score-cache.ts';
import { memorySentence, servingMemory } from '../training/memory-budget.ts';
import {
  type EvaluateOptions,
  type EvaluateReport,
  reachOf,
  reportOf,
  withoutQueries,
  writeEvaluation,
} from './evaluation-report.ts';

/** Texts timed one at a time. */
const TIMED = 200;
/** Embeddings that are looked at for collapse. */
const COLLAPSE_SAMPLE = 256;

/**
 * Measures a saved student by exact search, compares it with its teacher and other systems, and times it.
 * @throws InputError where a model, the data or another file cannot be read, or a metric does not exist
 */
export async function evaluate(options: EvaluateOptions, given: RunControl = {}): Promise<EvaluateReport> {
  const { isSparseFolder } = await import('../models/sparse/sparse-folder.ts');
  if (isSparseFolder(options.student)) {
    const { evaluateSparse } = await import('./evaluate-sparse.ts');
    return evaluateSparse(options, given);
  }
  if (options.with !== undefined)
    throw new InputError({
      code: 'evaluate.with',
      subject: `--with adds a dense student to a sparse one, and ${options.student} is dense`,
      remedy: 'give the sparse student with --student',
    });
  const { metrics = defaultMetrics, depth = 100, candidates = 'student', seed = 0 } = options;
  const reach = reachOf(options);
  const made = await readProvenance(options.student, options);
  const split = splitFor(options.split, 'test', made.data.splits, given);
  const dataset = await openAsRun(
    options.data,
    options.columns ? { ...made.data, columns: options.columns } : made.data,
    [split],
    given,
  );
  const qrels = dataset.qrels(split);
  const [first, ...otherFiles] = await dtypeFiles(options.student, options.dtype);
  const servedTeacher = options.teacher && !isScoreFile(options.teacher) ? options.teacher : undefined;
  // What is named is read before any text is encoded, so that a mistake costs no time.
  const teacherFile = servedTeacher ? (await readModelFolder(servedTeacher)).model : undefined;
  if (options.index !== undefined && options.index !== 'usearch')
    throw new InputError({ code: 'evaluate.index', subject: `the index '${options.index}'`, expected: "'usearch'" });
  const other = options.baseline === undefined ? undefined : withoutQueries(await readRun(options.baseline), dataset);
  const source = candidates === 'student' ? undefined : await candidateRun(candidates, dataset, split, depth, given);
  const watch: RunControl = {
    ...given,
    ...(options.memory && {
      memory: await servingMemory(options.memory, [options.student, made.inherits?.model, servedTeacher], dataset),
    }),
  };
  const cacheFolder = options.cache ?? defaultCache();
  const cache = await ScoreCache.open(cacheFolder);
  const table = new EvaluationTable({ dataset, split, metrics, seed, samples: options.samples, watch });
  if (options.memory && watch.memory)
    table.note(memorySentence(options.memory, watch.memory, dataset.documents.length));
  try {
    // What the student finds by itself.
    const searched = { dataset, split, depth: reach };
    const { provider } = options;
    const documents = inheritedDocuments(made, cache, provider);
    const notes = new Set<string>();
    const find = async ({ file }: DTypeFile): ReturnType<typeof retrieve> => {
      const session = await computeFile(file, provider);
      const encoder = await Encoder.load(file, { comparable: true, prompts: options.prompts, session });
      const note = onCpuNote(file, provider);
      for (const text of [...encoder.notes, ...(note ? [note] : [])]) notes.add(text);
      try {
        return await retrieve(encoderSearcher(encoder, made, documents), searched, watch);
      } finally {
        await encoder.dispose();
      }
    };
    const found = await find(first);
    const { vectors } = found;
    for (const note of notes) table.note(note);
    const student = table.add('student', 'student', found.run);
    if (isLateFolder(options.student)) {
      const run = cutRun(student.run, depth);
      const session = await deviceOf({ model: options.student }, provider);
      const late = { dataset, run, cache: cacheFolder, documents: options.documents, session };
      const reranked = await evaluateLate(options.student, late, watch);
      table.compare(
        table.add('student', `student re-ranking ${depth} by token vectors`, reranked),
        student,
        'full retrieval',
      );
    }
    let hopeless = 0;
    for (const grades of qrels.values()) hopeless += Number(![...grades.values()].some((g) => g > 0));
    for (const note of sampleNotes(student.evaluation.queryIds.length)) table.note(note);
    if (hopeless)
      table.note(`${hopeless} judged queries have no relevant document and count 0, as trec_eval counts them`);

    // The teacher, another system, other files of the checkpoint.
    const { teacher, costQueries = 5 } = options;
    const session = teacherFile ? await computeFile(teacherFile, provider) : undefined;
    const teacherNote = teacherFile && onCpuNote(teacherFile, provider);
    if (teacherNote) table.note(teacherNote);
    const limits = { ...made.teacher, prompts: options.teacherPrompts, session };
    const asked = { dataset, split, teacher, source, depth, reach, costQueries, limits, cache };
    const { same, given: listed, timed } = await measureTeacher(table, student, vectors, asked, watch);
    if (options.baseline && other) {
      const baseline = table.add('baseline', `baseline ${options.baseline.split(/[\\/]/).at(-1)}`, other);
      table.compare(student, baseline, 'full retrieval');
    }
    const [metric] = metrics;
    const quality = new Map([[first.dtype, student.evaluation.means[metric]]]);
    for (const file of otherFiles) {
      const m = table.add('student', `student ${file.dtype}`, (await find(file)).run);
      quality.set(file.dtype, m.evaluation.means[metric]);
      table.compare(m, student, 'full retrieval');
    }

    // Shorter vectors, cost, an index, what the vectors are like.
    const widths = [1, 2, 4, 8, 16]
      .map((part) => Math.floor(vectors.dimensions / part))
      .filter((n, i) => !i || n >= 16);
    const matryoshka = await byPrefix(found, widths, searched, metric, watch);
    const texts = vectors.positions.slice(0, TIMED).map((q) => beginningOf(dataset.queries.text(q)));
    const costing = {
      student: options.student,
      dtype: first.dtype,
      texts,
      maxLength: made.queryTokens,
      timed,
      quality,
    };
    const cost = options.cost === false ? [] : await measureCosts(table.systems, costing, watch);
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
    if (diagnosed.calibration) for (const note of calibrationNotes(student.run.size)) table.note(note);
    const { dimensions } = vectors;
    const encoded = made.inherits ? vectors.queries : vectors.documents;
    const collapsed = collapse({ dimensions, data: encoded.subarray(0, COLLAPSE_SAMPLE * dimensions) });
    if (collapsed) table.note(`warning: the student has collapsed: ${collapsed}`);

    const reranked = listed
      ? candidates === 'student'
        ? "the teacher's lists"
        : candidates
      : `the student's ${depth}`;
    const report: EvaluateReport = {
      ...reportOf(table, student, [
        ['student', `${vectors.dimensions} dimensions, ${first.dtype}, exact search`],
        ...(same ? ([['re-ranked', reranked]] as [string, string][]) : []),
      ]),
      retention: same && Object.fromEntries(table.comparisons[0].rows.map((r) => [r.metric, r.retention.value])),
      sentences: table.comparisons
        .filter((c) => c.b.startsWith('teacher'))
        .map((c) => `${retentionSentence(c.rows[0], "the teacher's")} (${c.on})`),
      fidelity: same && fidelity(same.student.run, same.teacher.run),
      differences: same && differences(same.student, same.teacher, dataset, qrels, metric),
      ...diagnosed,
      cost,
      speedFactor: speedFactor(cost, first.dtype),
      index,
      matryoshka,
    };
    await writeEvaluation(options, report, student);
    return report;
  } finally {
    await cache.close();
  }
}
