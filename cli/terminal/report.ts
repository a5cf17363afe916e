/** @file The final table of a run. */

import { sized } from '../../common/byte-size.ts';
import { duration } from '../../common/duration.ts';
import type { RunReport, StagePlan } from '../../pipelines/distill.ts';
import { NEVER_MADE } from '../../run/stages/artifact-store.ts';
import type { TeacherFacts } from '../../teachers/teacher.ts';
import type { StudentCheck } from '../../training/check-student.ts';

type Row = RunReport['systems'][number];

/** Columns after the metrics, shown where some system has them. */
const extraColumns: readonly { title: string; of(row: Row): string | undefined }[] = [
  { title: 'MB', of: ({ bytes }) => (bytes === undefined ? undefined : (bytes / 1e6).toFixed(1)) },
  { title: 'ms per query', of: ({ queryMilliseconds }) => queryMilliseconds?.toFixed(1) },
];

/** Systems as the lines of a table, columns aligned. */
export function renderSystems(systems: readonly Row[]): string[] {
  const metrics = [...new Set(systems.flatMap((s) => Object.keys(s.metrics)))];
  const extras = extraColumns.filter((c) => systems.some((s) => c.of(s)));
  const rows = [
    ['system', ...metrics, ...extras.map((c) => c.title)],
    ...systems.map((s) => [
      s.name,
      ...metrics.map((m) => s.metrics[m]?.toFixed(4) ?? '-'),
      ...extras.map((c) => c.of(s) ?? '-'),
    ]),
  ];
  const widths = rows[0].map((_, c) => rows.reduce((most, r) => Math.max(most, r[c].length), 0));
  return rows.map((r) => r.map((cell, c) => (c ? cell.padStart(widths[c]) : cell.padEnd(widths[c]))).join('  '));
}

/** A count of parameters in millions; small ones exactly. */
const counted = (n: number): string => (n < 100_000 ? n.toLocaleString('en') : `${(n / 1e6).toFixed(1)} M`);

/** The properties read from a re-ranker. */
export const renderTeacher = ({ file, inputs, score, limit, notes }: TeacherFacts): string =>
  [
    `teacher     ${file}`,
    `score       ${score}`,
    ...inputs.map((line) => `takes       ${line}`),
    `reads       ${limit}`,
    ...notes.map((note) => `note        ${note}`),
    'it scores pairs as a teacher',
    '',
  ].join('\n');

export function renderCheck(found: StudentCheck): string {
  const dims = (d: readonly unknown[]): string => `[${d.join(', ')}]`;
  return [
    `model       ${found.file}, opset ${found.opset}`,
    ...found.inputs.map((v) => `input       ${v.name} ${v.dtype} ${dims(v.dims)}`),
    ...found.outputs.map((v) => `output      ${v.name} ${dims(v.dims)}`),
    `layers      ${found.layers ?? `none found: ${found.layersProblem}`}`,
    `parameters  ${counted(found.parameters)}`,
    `rules       ${found.withoutRule.length ? `missing for ${found.withoutRule.join(', ')}` : 'every operator has one'}`,
    ...(found.stepMegabytes ? [`memory      about ${found.stepMegabytes} MB per step of 32 texts of 64 tokens`] : []),
    ...found.notes.map((n) => `note        ${n}`),
    found.trainable
      ? 'it can be trained here'
      : found.withoutRule.length
        ? 'it cannot be trained here until these operators have a gradient rule'
        : 'it cannot be trained here',
    '',
  ].join('\n');
}

const statusWords: Record<StagePlan['status'], string> = { made: 'made again', reused: 'reused', depends: 'depends' };

/** A line per stage: its name, whether it runs, and why. */
export function renderPlan(plan: readonly StagePlan[]): string {
  const rows = plan.map(({ stage, status, why, missing }) => {
    const first = why === NEVER_MADE || (missing && missing.count > 0 && missing.count === missing.of);
    return [stage, first ? 'to do' : statusWords[status], why];
  });
  const width = nameWidth(plan);
  return `${rows.map(([a, b, c]) => `${a.padEnd(width)}${b.padEnd(12)}${c}\n`).join('')}${renderEstimates(plan)}`;
}

/** Stages of a chain are named after their runs, and are longer. */
const nameWidth = (plan: readonly StagePlan[]): number =>
  plan.reduce((width, { stage }) => Math.max(width, stage.length + 2), 16);

const about = (seconds: number): string => (seconds < 1 ? 'under 1 s' : duration(seconds));

/** What stages would take, as far as it is known, with how it was found. */
function renderEstimates(plan: readonly StagePlan[]): string {
  const estimated = plan.flatMap(({ stage, estimate }) => (estimate ? [{ stage, ...estimate }] : []));
  if (!estimated.length) return '';
  const width = nameWidth(plan);
  const lines = estimated.map(({ stage, seconds, bytes, how }) => {
    const memory = bytes === undefined ? '' : sized(bytes);
    return `${stage.padEnd(width)}${(seconds === undefined ? '-' : about(seconds)).padEnd(16)}${memory.padEnd(10)}${how}\n`;
  });
  const total = estimated.reduce((sum, { seconds = 0 }) => sum + seconds, 0);
  const partly = estimated.some(({ seconds }) => seconds === undefined) ? ' without what has no estimate' : '';
  return `\nestimates (about, on this machine as it is now)\n${lines.join('')}${'together'.padEnd(width)}${about(total)}${partly}\n`;
}

export function renderReport(report: RunReport): string {
  const table = renderSystems(report.systems);
  const { student, training, seconds, retention = {}, matryoshka = [], systems } = report;
  const [metric] = [...new Set(systems.flatMap((s) => Object.keys(s.metrics)))];
  const total = Object.values(seconds).reduce((a, b) => a + b, 0);
  // The figures of a family are those of its first student, whose stages stand under its name.
  const first = Object.keys(report.members ?? {})[0];
  const trained = seconds[first === undefined ? 'train' : `${first}/train`] ?? 0;
  const of = first === undefined ? '' : ` (${first})`;
  return [
    '',
    ...(report.verdict ? [`${report.verdict}.`, ''] : []),
    ...table,
    '',
    ...Object.entries(report.continued ?? {}).map(
      ([split, { queries, values }]) =>
        `${split.padEnd(12)}nDCG@10 ${values['student before training'].toFixed(4)} before, ${values.student.toFixed(4)} after (${queries} queries)`,
    ),
    ...Object.entries(retention)
      .slice(0, 1)
      .map(
        ([metric, kept]) =>
          `retention   ${(100 * kept).toFixed(1)} % of the ${systems.some((s) => s.name === 'teacher') ? 'teacher' : 'embedder'}'s ${metric}`,
      ),
    `student     ${counted(student.parameters)} parameters, ${(student.bytes / 1e6).toFixed(1)} MB, ${student.queryMilliseconds.toFixed(1)} ms per query${of}`,
    ...(matryoshka.length > 1
      ? [`dimensions  ${metric} ${matryoshka.map((m) => `${m.value.toFixed(4)} of ${m.dimensions}`).join(', ')}`]
      : []),
    `training    ${training.steps} steps, ${training.secondsAStep.toFixed(3)} s per step, ${duration(trained)}${of}; the whole run ${duration(total)}`,
    ...[...report.warnings, ...(report.export?.warnings ?? [])].map((w) => `warning     ${w}`),
    `checkpoint  ${report.checkpoint}`,
    ...(report.export ? [`export      ${report.export.output}`] : []),
    `report      ${report.report}`,
    '',
  ].join('\n');
}
