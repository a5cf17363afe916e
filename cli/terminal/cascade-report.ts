/** @file The output of `distill cascade` and `distill evaluate --cascade`. */
import type { CurvePoint } from '../../adaptive/curve.ts';
import type { CascadeEvaluation } from '../../search/evaluate-cascade.ts';
import type { CascadeReport } from '../../search/fit-cascade.ts';
import { table } from './figures.ts';

const percent = (x: number): string => `${(100 * x).toFixed(1)} %`;

export function renderCascade(report: CascadeReport): string {
  const { guarantee, rule, fusion, queries, deferred, pairs, layers, risk, candidates, output } = report;
  return [
    '',
    guarantee,
    '',
    `rule       ${rule}, student's score with weight ${fusion} in scores of documents that the teacher saw`,
    `queries    ${queries.fitted} fitted on, ${queries.certified} certified on`,
    `deferred   ${percent(deferred)} of the queries`,
    `pairs      ${pairs.toFixed(1)} of ${candidates} a query`,
    ...(layers === undefined ? [] : [`layers     ${layers.toFixed(2)} of the teacher's a pair`]),
    `mean loss  ${risk.toFixed(4)} of nDCG@10 on the certifying queries`,
    `written    ${output}`,
    '',
  ].join('\n');
}

/** Number of printed points of the curve. */
const POINTS = 9;

export function renderCascadeEvaluation(report: CascadeEvaluation): string {
  const { quality, difference, milliseconds, promised, risk } = report;
  const interval = ({ low, high }: { low: number; high: number }): string => `[${low.toFixed(4)}, ${high.toFixed(4)}]`;
  const curve = [...report.curve].sort((a, b) => a.pairs - b.pairs);
  const shown = Array.from(
    { length: Math.min(POINTS, curve.length) },
    (_, i) => curve[Math.round((i * (curve.length - 1)) / (Math.min(POINTS, curve.length) - 1))],
  );
  return [
    '',
    `queries     ${report.queries} of the split ${report.split}, ${report.documents} documents, quality by ${report.against}`,
    `promised    ${report.guarantee}`,
    `realised    mean loss ${risk.toFixed(4)}, promised ${promised}: ${risk <= promised ? 'kept' : report.certified ? 'exceeded on this split (the promise is for the mean over all such queries)' : 'exceeded'}`,
    '',
    ...table([
      ['system', 'ndcg@10', '95 % interval', 'pairs per query'],
      ['student alone', report.student.toFixed(4), '', '0.0'],
      ['cascade', quality.value.toFixed(4), interval(quality), report.pairs.toFixed(1)],
      ['teacher over all', report.teacher.toFixed(4), '', String(report.candidates)],
    ]),
    '',
    `difference  ${difference.value.toFixed(4)} ${interval(difference)} compared with the teacher over all`,
    `deferred    ${percent(report.deferred)} of the queries`,
    `calibration the queries ${report.drift.pValue < 0.01 ? 'differ' : 'do not differ'} from those of calibration (p ${report.drift.pValue.toPrecision(2)})`,
    ...(report.layers === undefined ? [] : [`layers      ${report.layers.toFixed(2)} of the teacher's a pair`]),
    ...(milliseconds
      ? [
          `time        p50 ${milliseconds.p50.toFixed(1)} ms, p95 ${milliseconds.p95.toFixed(1)} ms per query, ${milliseconds.queries} served one at a time`,
        ]
      : []),
    '',
    ...table([
      ['pairs per query', 'rule', 'random', 'oracle'],
      ...shown.map((p) => [
        p.pairs.toFixed(1),
        p.quality.toFixed(4),
        at(report.random, p.pairs).toFixed(4),
        at(report.oracle, p.pairs).toFixed(4),
      ]),
    ]),
    ...(report.shareOfOracle === undefined
      ? []
      : [`above random deferral: ${percent(report.shareOfOracle)} of the gain of the oracle`]),
    ...report.notes.map((note) => `note: ${note}`),
    '',
  ].join('\n');
}

/** Quality of a curve at a number of pairs, by linear interpolation. */
function at(points: readonly CurvePoint[], pairs: number): number {
  const sorted = [...points].sort((a, b) => a.pairs - b.pairs);
  const after = sorted.findIndex((p) => p.pairs >= pairs);
  if (after <= 0) return sorted[after < 0 ? sorted.length - 1 : 0].quality;
  const [a, b] = [sorted[after - 1], sorted[after]];
  return a.quality + ((b.quality - a.quality) * (pairs - a.pairs)) / (b.pairs - a.pairs || 1);
}
