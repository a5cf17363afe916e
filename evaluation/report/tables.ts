/** @file The tables of a report as plain cells, for HTML and for markdown. */
import type { Fidelity } from '../metrics/fidelity.ts';
import type { CostFigures, Figures, SystemFigures } from './figures.ts';

export interface TableData {
  caption?: string;
  head: string[];
  rows: string[][];
}

export function metricTable(systems: readonly SystemFigures[]): TableData {
  const metrics = [...new Set(systems.flatMap((s) => Object.keys(s.metrics)))];
  return {
    head: ['system', ...metrics],
    rows: systems.map((s) => [s.name, ...metrics.map((m) => s.metrics[m]?.toFixed(4) ?? '–')]),
  };
}

export function fidelityTable(f: Fidelity): TableData {
  return {
    head: ['Kendall tau-b', 'Spearman rho', 'top-10 overlap', 'RBO (p 0.9)', 'KL, nats', 'confident pairs', 'queries'],
    rows: [
      [
        f.kendallTau.toFixed(3),
        f.spearman.toFixed(3),
        f.overlap10.toFixed(3),
        f.rbo.toFixed(3),
        f.kl.toFixed(3),
        f.confidentPairs.toFixed(3),
        f.skipped ? `${f.queries} (${f.skipped} skipped: constant or short lists)` : String(f.queries),
      ],
    ],
  };
}

export function calibrationTable({ calibration: c, geometry: g }: Figures): TableData {
  const rows: string[][] = [];
  if (c) {
    rows.push(['calibration error (ECE), student', c.student.ece.toFixed(4)]);
    rows.push(['Brier score, student', c.student.brier.toFixed(4)]);
    if (c.teacher) {
      rows.push(['calibration error (ECE), teacher', c.teacher.ece.toFixed(4)]);
      rows.push(['Brier score, teacher', c.teacher.brier.toFixed(4)]);
    }
    if (c.slope !== undefined) rows.push(['slope of confidence (over 1: exaggerated)', c.slope.toFixed(3)]);
  }
  if (g) {
    rows.push([`effective rank of documents, of ${g.dimensions}`, g.effectiveRank.toFixed(1)]);
    rows.push(['uniformity of documents', g.uniformity.toFixed(3)]);
    if (g.alignment !== undefined) rows.push(['alignment of queries and relevant documents', g.alignment.toFixed(3)]);
  }
  return { head: ['figure', 'value'], rows };
}

export const costTable = (cost: readonly CostFigures[]): TableData => ({
  head: ['model', 'MB', 'M weights', 'p50 ms', 'p95 ms', 'texts/s', 'load ms', 'peak MB'],
  rows: cost.map((c) => [
    c.pairs === undefined ? c.name : `${c.name}, ${Math.round(c.pairs)} pairs per query`,
    (c.bytes / 1e6).toFixed(1),
    (c.parameters / 1e6).toFixed(2),
    c.p50.toFixed(2),
    c.p95.toFixed(2),
    c.textsPerSecond?.toFixed(0) ?? '–',
    c.loadMilliseconds.toFixed(0),
    c.peakBytes === undefined ? '–' : (c.peakBytes / 1e6).toFixed(0),
  ]),
});
