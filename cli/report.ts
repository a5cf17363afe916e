/** @file The table a run ends with. */
import type { RunReport } from '../pipelines/distill.ts';
import type { ModelCheck } from '../students/check.ts';
import { duration } from './progress.ts';

/** Systems as the lines of a table, columns aligned. */
export function renderSystems(systems: RunReport['systems']): string[] {
  const metrics = Object.keys(systems[0]?.metrics ?? {});
  const rows = [
    ['system', ...metrics],
    ...systems.map((s) => [s.name, ...metrics.map((m) => s.metrics[m].toFixed(4))]),
  ];
  const widths = rows[0].map((_, c) => Math.max(...rows.map((r) => r[c].length)));
  return rows.map((r) => r.map((cell, c) => (c ? cell.padStart(widths[c]) : cell.padEnd(widths[c]))).join('  '));
}

export function renderCheck(found: ModelCheck): string {
  const dims = (d: readonly unknown[]): string => `[${d.join(', ')}]`;
  return [
    `model       ${found.file}, opset ${found.opset}`,
    ...found.inputs.map((v) => `input       ${v.name} ${v.dtype} ${dims(v.dims)}`),
    ...found.outputs.map((v) => `output      ${v.name} ${dims(v.dims)}`),
    `layers      ${found.layers ?? `none found: ${found.layersProblem}`}`,
    `parameters  ${(found.parameters / 1e6).toFixed(2)} M`,
    `rules       ${found.withoutRule.length ? `missing for ${found.withoutRule.join(', ')}` : 'every operator has one'}`,
    ...(found.stepMegabytes ? [`memory      about ${found.stepMegabytes} MB a step of 32 texts of 64 tokens`] : []),
    found.trainable ? 'it can be trained here' : 'it cannot be trained here until these operators have a gradient rule',
    '',
  ].join('\n');
}

export function renderReport(report: RunReport): string {
  const table = renderSystems(report.systems);
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
