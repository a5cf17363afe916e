/** @file The output of `distill evaluate` and `distill compare`. */
import { shown } from '../../common/errors.ts';
import type { Comparison, Figures } from '../../evaluation/report/figures.ts';
import { metricTable } from '../../evaluation/report/tables.ts';

const percent = (x: number): string => `${(100 * x).toFixed(1)} %`;

/** Cells as aligned lines, the first column left-aligned. */
export function table(given: readonly (readonly string[])[]): string[] {
  const rows = given.map((r) => r.map(shown));
  const widths = rows[0].map((_, c) => rows.reduce((most, r) => Math.max(most, r[c].length), 0));
  return rows.map((r) => r.map((cell, c) => (c ? cell.padStart(widths[c]) : cell.padEnd(widths[c]))).join('  '));
}

function systems(figures: Figures): string[] {
  const { head, rows } = metricTable(figures.systems);
  return table([head, ...rows]);
}

export function renderComparison({ a, b, on, rows }: Comparison): string[] {
  return [
    `${a} against ${b}, ${on}`,
    ...table([
      ['metric', 'keeps', '95 % interval', 'difference', 'p (Holm)', 'better/equal/worse'],
      ...rows.map((r) => [
        r.metric,
        percent(r.retention.value),
        `[${(100 * r.retention.low).toFixed(1)}, ${(100 * r.retention.high).toFixed(1)}]`,
        r.difference.toFixed(4),
        r.pHolm < 0.001 ? '< 0.001' : r.pHolm.toFixed(3),
        `${r.wins}/${r.ties}/${r.losses}`,
      ]),
    ]),
    '',
  ];
}

export function renderEvaluation(report: Figures & { sentences: readonly string[] }): string {
  const { fidelity: f, calibration, geometry, index } = report;
  const cost = report.cost ?? [];
  return [
    '',
    ...systems(report),
    '',
    ...report.sentences,
    ...(report.sentences.length ? [''] : []),
    ...(report.comparisons ?? []).flatMap(renderComparison),
    ...(f
      ? [
          `fidelity    tau ${f.kendallTau.toFixed(3)}, rho ${f.spearman.toFixed(3)}, top-10 overlap ${f.overlap10.toFixed(3)}, RBO ${f.rbo.toFixed(3)}, KL ${f.kl.toFixed(3)} over ${f.queries} queries${f.skipped ? `, ${f.skipped} skipped` : ''}`,
        ]
      : []),
    ...(calibration
      ? [
          `calibration ECE ${calibration.student.ece.toFixed(4)}${calibration.teacher ? `, the teacher's ${calibration.teacher.ece.toFixed(4)}` : ''}${calibration.slope === undefined ? '' : `, slope of confidence ${calibration.slope.toFixed(2)}`}`,
        ]
      : []),
    ...(geometry
      ? [
          `geometry    effective rank ${geometry.effectiveRank.toFixed(1)} of ${geometry.dimensions}, uniformity ${geometry.uniformity.toFixed(2)}`,
        ]
      : []),
    ...(cost.length
      ? [
          '',
          ...table([
            ['model', 'MB', 'M parameters', 'p50 ms', 'p95 ms', 'texts/s', 'peak MB'],
            ...cost.map((c) => [
              c.pairs === undefined ? c.name : `${c.name}, ${Math.round(c.pairs)} pairs per query`,
              (c.bytes / 1e6).toFixed(1),
              (c.parameters / 1e6).toFixed(2),
              c.p50.toFixed(2),
              c.p95.toFixed(2),
              c.textsPerSecond?.toFixed(0) ?? '-',
              c.peakBytes === undefined ? '-' : (c.peakBytes / 1e6).toFixed(0),
            ]),
          ]),
        ]
      : []),
    ...(report.speedFactor ? [`the teacher takes ${report.speedFactor.toFixed(0)} times as long per query`] : []),
    ...(index
      ? [
          `index       ${index.name}: ${percent(index.recall)} of the exact ${index.k} nearest among ${index.documents}, ${index.queryMilliseconds.toFixed(2)} ms per query (exact ${index.exactMilliseconds.toFixed(2)} ms), built in ${index.buildSeconds.toFixed(1)} s`,
        ]
      : []),
    '',
  ].join('\n');
}

export const renderCompared = (figures: Figures): string =>
  ['', ...systems(figures), '', ...(figures.comparisons ?? []).flatMap(renderComparison), ...figures.notes, ''].join(
    '\n',
  );
