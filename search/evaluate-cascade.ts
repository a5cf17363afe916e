/** @file Measures a cascade on a split: quality, realised risk compared with the promise, what the teacher was asked, time. */

import { type CascadeFigures, evaluateCascade, shareOfOracle } from '../adaptive/curve.ts';
import { drift } from '../adaptive/drift.ts';
import { needsOf } from '../adaptive/policy.ts';
import { writeWhole } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import { openAsRun, splitFor } from '../data/open.ts';
import type { Computing } from '../engine/runtime/provider.ts';
import type { Figures } from '../evaluation/report/figures.ts';
import { quantile } from '../math/resampling.ts';
import { openCascade } from '../serving/cascade.ts';
import { type CascadeFile, guaranteeSentence, readCascade } from '../serving/cascade-file.ts';
import { deviceOf, readProvenance } from '../serving/encoder/checkpoint.ts';
import { rerankerOf } from '../serving/reranker.ts';
import { defaultCache, ScoreCache } from '../teachers/cache/score-cache.ts';
import { crossEncoder } from '../teachers/cross-encoder.ts';
import { isExits } from '../teachers/exits.ts';
import { openStudentIndex, queriesOf, scoredLists, scoresThrough, UNJUDGED } from './scored-lists.ts';

/** The cascade, and what it is measured on. */
export interface EvaluateCascadeOptions {
  /** cascade.json. */
  cascade: string;
  data: string;
  split?: string;
  index?: string;
  /** Where student and teacher are, where they were moved. */
  student?: string;
  teacher?: string;
  /** Whether queries are served and timed; true by default. */
  cost?: boolean;
  costQueries?: number;
  /** Where student and teacher compute; the CPU by default. */
  provider?: Computing['provider'];
  cache?: string;
  /** File that the figures are written to. */
  json?: string;
  /** Report to look at. */
  html?: string;
}

/** What a cascade reaches on a split, with its promise. */
export interface CascadeEvaluation extends CascadeFigures {
  split: string;
  documents: number;
  candidates: number;
  /** The promise, and what was promised: mean loss against re-ranking everything. */
  guarantee: string;
  promised: number;
  certified: boolean;
  /** Whether quality is by labels or by the teacher's order. */
  against: CascadeFile['guarantee']['against'];
  /** Area under the deferral curve above random deferral, over the oracle's; absent where the teacher gains nothing. */
  shareOfOracle?: number;
  /** These queries compared with those of calibration: p-value of the two-sample test of needs, shares deferred here and there. */
  drift: { pValue: number; deferred: number; expected: number };
  /** What does not fit, and what is to be known. */
  notes: string[];
  /** A query served whole, one at a time. */
  milliseconds?: { p50: number; p95: number; queries: number };
}

/** Measures a cascade on a split: quality, realised risk, share of queries and pairs asked, time. @throws InputError where the cascade, a model or the data cannot be read, or a hash does not fit */
export async function evaluateCascadeFile(
  options: EvaluateCascadeOptions,
  watch: RunControl = {},
): Promise<CascadeEvaluation> {
  const file = await readCascade(options.cascade);
  const student = options.student ?? file.student.path;
  const made = await readProvenance(student);
  const split = splitFor(options.split, 'test', made.data.splits, watch);
  const dataset = await openAsRun(options.data, made.data, [split], watch);
  const positions = queriesOf(dataset, split);
  const { provider } = options;
  const { queryTokens, documentTokens } = file.teacher;
  const path = options.teacher ?? file.teacher.path;
  const labels = split !== UNJUDGED && file.guarantee.against === 'labels';
  const notes: string[] = [];
  if (file.data.documents !== dataset.documents.hash)
    notes.push('the documents are not those that the guarantee was certified on: it does not hold for them');
  if (file.data.split === split) notes.push(`the split '${split}' is the one that the cascade was calibrated on`);
  const { index, close } = await openStudentIndex(
    { student, dtype: file.student.dtype, index: options.index, provider },
    dataset,
    watch,
  );
  const cache = await ScoreCache.open(options.cache ?? defaultCache());
  try {
    // Hashes are compared before the teacher is asked anything.
    const session = await deviceOf({ model: path }, provider);
    const teacher = await crossEncoder(path, { maxQuery: queryTokens, maxDocument: documentTokens, session });
    try {
      const served = await openCascade(options.cascade, { index, teacher: rerankerOf(teacher) });
      for (const note of served.notes) notes.push(note);
      const { candidates } = file;
      const asked = { index, scores: scoresThrough(cache, teacher), dataset, candidates };
      const lists = await scoredLists(asked, positions, labels ? split : undefined, watch);
      const figures = evaluateCascade(lists.queries, file.policy, isExits(teacher) ? teacher.exits : undefined);
      const share = shareOfOracle(figures);
      const needs = lists.queries.map((q) => needsOf(q, file.policy)[0]);
      const compared = drift(file.calibration.needs, needs, file.policy.threshold);
      if (compared.drifted)
        notes.push(
          `these queries differ from those of calibration (p ${compared.pValue.toExponential(1)}): the guarantee does not apply to them`,
        );
      const texts = positions.slice(0, options.costQueries ?? 20).map((q) => dataset.queries.text(q));
      const report: CascadeEvaluation = {
        ...figures,
        split,
        documents: dataset.documents.length,
        candidates,
        guarantee: guaranteeSentence(file),
        promised: file.guarantee.alpha,
        certified: file.guarantee.certified,
        against: labels ? 'labels' : "the teacher's order",
        ...(Number.isFinite(share) && { shareOfOracle: share }),
        drift: { pValue: compared.pValue, deferred: compared.deferred, expected: compared.expected },
        notes,
        ...(options.cost !== false && { milliseconds: await timed(served, texts, watch) }),
      };
      if (options.json) await writeWhole(options.json, `${JSON.stringify(report)}\n`);
      if (options.html) {
        const { renderHtml } = await import('../evaluation/report/html.ts');
        await writeWhole(options.html, renderHtml(reportFigures(report, dataset.name)));
      }
      return report;
    } finally {
      await teacher.dispose();
    }
  } finally {
    await cache.close();
    await close();
  }
}

/** The evaluation as the HTML report takes it. */
function reportFigures(report: CascadeEvaluation, name: string): Figures {
  const { quality, difference, milliseconds, curve, random, oracle } = report;
  const interval = ({ value, low, high }: CascadeEvaluation['quality']): string =>
    `${value.toFixed(4)} [${low.toFixed(4)}, ${high.toFixed(4)}]`;
  const percent = (x: number): string => `${(100 * x).toFixed(1)} %`;
  const system = (called: string, role: 'student' | 'teacher' | 'other', value: number) => ({
    name: called,
    role,
    metrics: { 'ndcg@10': value },
  });
  return {
    title: `Cascade on ${name}`,
    facts: [
      ['data', `${name}, split ${report.split}`],
      ['queries', `${report.queries}, quality by ${report.against}`],
      ['cascade', interval(quality)],
      ['less the teacher over all', interval(difference)],
      ['mean loss', `${report.risk.toFixed(4)}, promised ${report.promised}`],
      ['deferred', `${percent(report.deferred)} of the queries, ${report.pairs.toFixed(1)} pairs a query`],
      ...(report.layers === undefined
        ? []
        : [['layers', `${report.layers.toFixed(2)} of the teacher's a pair`] as [string, string]]),
      [
        'compared with calibration',
        `p ${report.drift.pValue.toPrecision(2)}, deferred ${percent(report.drift.deferred)} here and ${percent(report.drift.expected)} there`,
      ],
      ...(report.shareOfOracle === undefined
        ? []
        : [
            ['above random deferral', `${percent(report.shareOfOracle)} of what the oracle reaches`] as [
              string,
              string,
            ],
          ]),
      ...(milliseconds
        ? [
            ['a query', `p50 ${milliseconds.p50.toFixed(1)} ms, p95 ${milliseconds.p95.toFixed(1)} ms`] as [
              string,
              string,
            ],
          ]
        : []),
    ],
    notes: [report.guarantee, ...report.notes],
    systems: [
      system('student alone', 'student', report.student),
      system('cascade', 'other', quality.value),
      system(`teacher over ${report.candidates}`, 'teacher', report.teacher),
    ],
    deferral: { curve, random, oracle, at: { pairs: report.pairs, quality: quality.value } },
  };
}

async function timed(
  cascade: { search: Awaited<ReturnType<typeof openCascade>>['search'] },
  texts: readonly string[],
  { onProgress, signal }: RunControl,
): Promise<CascadeEvaluation['milliseconds']> {
  await cascade.search(texts[0]);
  const times: number[] = [];
  for (const text of texts) {
    signal?.throwIfAborted();
    const started = performance.now();
    await cascade.search(text);
    times.push(performance.now() - started);
    onProgress?.({ stage: 'time queries', done: times.length, total: texts.length, unit: 'queries' });
  }
  return { p50: quantile(times, 0.5), p95: quantile(times, 0.95), queries: times.length };
}
