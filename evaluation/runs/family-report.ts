/** @file One report of several students of a chain: their rows in one table, the first sentence of what is worse. */
import type { Config } from '../../config/config.ts';
import type { Figures, SystemFigures } from '../report/figures.ts';
import { describeAlso } from './measure-also.ts';
import { type RunReport, together } from './run-report.ts';
import { verdict } from './verdict.ts';

/** A student of a chain, as the family's table has it. */
const called: Readonly<Record<string, string>> = {
  assistant: 'assistant',
  query: 'query tower',
  static: 'static tower',
};

/** Rows that every run measures alike; they stand once. */
const common = new Set(['BM25', 'encoder as it was', 'student before training', 'teacher', 'embedder']);

/** @param reports of the students, by the names of their runs; the first one's figures stand for the family @param more.report the file */
export function familyReport(
  reports: Readonly<Record<string, RunReport>>,
  { config, report: file }: { config: Config; report: string },
): RunReport {
  const all = Object.entries(reports);
  const [, first] = all[0];
  const systems: RunReport['systems'] = [];
  for (const [name, report] of all)
    for (const row of report.systems) {
      const shared = common.has(row.name);
      // The assistant is the embedder of those that follow, and its own row says more.
      if (shared && (systems.some((s) => s.name === row.name) || (row.name === 'embedder' && reports.assistant)))
        continue;
      if (row.name === 'student before training' && name !== 'assistant') continue;
      systems.push({ ...row, name: shared ? row.name : row.name.replace(/^student/, called[name] ?? name) });
    }
  const sentences = all.flatMap(([name, r]) => {
    const said = memberVerdict(r, name === 'assistant' ? undefined : reports.assistant);
    return said ? [`${called[name] ?? name}: ${said}`] : [];
  });
  const named = (name: string, system: string): string =>
    common.has(system) ? system : system.replace(/^student/, called[name] ?? name);
  // The sets are the same in all runs; of a row that every run has, the first counts, as in the table.
  const also = first.also?.map((set, i) => ({
    ...set,
    systems: Object.assign(
      {},
      ...all
        .map(([name, r]) =>
          Object.fromEntries(Object.entries(r.also?.[i].systems ?? {}).map(([s, v]) => [named(name, s), v])),
        )
        .reverse(),
    ),
  }));
  const seconds: Record<string, number> = {};
  for (const [name, r] of all) for (const [stage, s] of Object.entries(r.seconds)) seconds[`${name}/${stage}`] = s;
  return {
    ...first,
    pipeline: config.pipeline,
    report: file,
    systems,
    also,
    verdict: sentences.length ? sentences.join('. ') : undefined,
    warnings: familyWarnings(all),
    members: Object.fromEntries(all.map(([name, r]) => [name, r.checkpoint])),
    seconds,
    stages: Object.assign(
      {},
      ...all.map(([name, r]) => Object.fromEntries(Object.entries(r.stages).map(([s, v]) => [`${name}/${s}`, v]))),
    ),
    config,
  };
}

/** The name of what a tower of the assistant has as its embedder. */
const ASSISTANT = { embedder: 'the assistant' };

/**
 * What a student's user had is named first. Of a tower over the assistant's documents that is the encoder that the assistant
 * began as; the assistant itself is named where it alone is better.
 */
function memberVerdict(report: RunReport, assistant: RunReport | undefined): string | undefined {
  if (!assistant) return report.verdict;
  const { before } = report;
  const hybrid = together(report);
  const begun = assistant.before.values['student before training'];
  const { embedder, ...others } = before.values;
  const values = {
    BM25: others.BM25,
    student: others.student,
    ...(before.split === assistant.before.split && begun !== undefined && { 'student before training': begun }),
  };
  return (
    verdict({ ...before, values }, { compact: true, hybrid }) ??
    verdict({ ...before, values: { student: others.student, embedder } }, { compact: true, hybrid, names: ASSISTANT })
  );
}

/** Warnings under the names of their runs; one that every run gives is said once. */
function familyWarnings(all: readonly [string, RunReport][]): string[] {
  const runs = new Map<string, string[]>();
  for (const [name, { warnings }] of all) for (const w of warnings) runs.set(w, [...(runs.get(w) ?? []), name]);
  return [...runs].map(([w, names]) =>
    all.length > 1 && names.length === all.length ? w : `${names.join(', ')}: ${w}`,
  );
}

/** What the page is drawn from. */
export const familyFigures = (report: RunReport, more: Figures['facts']): Figures => ({
  title: 'A family of students',
  facts: [
    ['pipeline', 'chain'],
    [
      'students',
      Object.keys(report.members ?? {})
        .map((m) => called[m] ?? m)
        .join(', '),
    ],
    ...more,
  ],
  notes: [
    ...(report.verdict ? [report.verdict] : []),
    ...report.warnings.map((w) => `Warning: ${w}`),
    ...(report.also ?? []).map(describeAlso),
  ],
  systems: report.systems.map(
    (s): SystemFigures => ({
      ...s,
      role: /^(assistant|query tower|static tower)/.test(s.name)
        ? 'student'
        : s.name === 'teacher'
          ? 'teacher'
          : s.name === 'embedder'
            ? 'baseline'
            : 'other',
    }),
  ),
});
