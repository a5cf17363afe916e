/** @file The table a run ends with. */
import type { RunReport } from '../pipelines/distill.ts';
import { duration } from './progress.ts';

export function renderReport(report: RunReport): string {
  const metrics = Object.keys(report.systems[0]?.metrics ?? {});
  const rows = [
    ['system', ...metrics],
    ...report.systems.map((s) => [s.name, ...metrics.map((m) => s.metrics[m].toFixed(4))]),
  ];
  const widths = rows[0].map((_, c) => Math.max(...rows.map((r) => r[c].length)));
  const table = rows.map((r) => r.map((cell, c) => (c ? cell.padStart(widths[c]) : cell.padEnd(widths[c]))).join('  '));
  const { student, training, seconds } = report;
  const total = Object.values(seconds).reduce((a, b) => a + b, 0);
  return [
    '',
    ...table,
    '',
    `student     ${(student.parameters / 1e6).toFixed(1)} M parameters, ${(student.bytes / 1e6).toFixed(1)} MB, ${student.queryMilliseconds.toFixed(1)} ms a query`,
    `training    ${training.steps} steps, ${training.secondsAStep.toFixed(3)} s a step, ${duration(seconds.train ?? 0)}; the whole run ${duration(total)}`,
    `checkpoint  ${report.checkpoint}`,
    `report      ${report.report}`,
    '',
  ].join('\n');
}
