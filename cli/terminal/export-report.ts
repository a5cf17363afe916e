/** @file The final output of an export: a line per file, and the reductions applied. */
import type { ExportReport } from '../../checkpoints/export-checkpoint.ts';

export function renderExport(report: ExportReport): string {
  const fixed = (x: number | undefined, digits: number): string => x?.toFixed(digits) ?? '-';
  const rows = [
    ['file', 'MB', 'ndcg@10', 'change', 'cosine'],
    ['the checkpoint', fixed(report.source.bytes / 1e6, 2), fixed(report.source.figures?.['ndcg@10'], 4), '', ''],
    ...report.files.map((f) => [
      f.file,
      fixed(f.bytes / 1e6, 2),
      fixed(f.figures?.['ndcg@10'], 4),
      f.change === undefined ? '-' : `${(100 * f.change).toFixed(2)} %`,
      fixed(f.figures?.cosine, 5),
    ]),
  ];
  const widths = rows[0].map((_, c) => rows.reduce((most, r) => Math.max(most, r[c].length), 0));
  const { vocabulary } = report;
  return [
    ...rows.map((r) => r.map((cell, c) => (c ? cell.padStart(widths[c]) : cell.padEnd(widths[c]))).join('  ')),
    '',
    ...(vocabulary
      ? [`vocabulary   ${vocabulary.before} pieces, ${vocabulary.used} used, ${vocabulary.after} kept`]
      : []),
    ...(report.tableShare === undefined ? [] : [`word table   keeps ${(100 * report.tableShare).toFixed(1)} %`]),
    `safetensors  ${report.safetensors}`,
    ...(report.unmeasured ? [`not measured: ${report.unmeasured}`] : []),
    ...report.warnings.map((w) => `warning: ${w}`),
    ...report.notes.map((n) => `note: ${n}`),
    `written      ${report.output}`,
    '',
  ].join('\n');
}
