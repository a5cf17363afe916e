/** @file One report of several students of a chain: their rows in one table, the first sentence of what is worse. */
import { writeWhole } from '../../common/files.ts';
import { madeFact } from '../../evaluation/report/facts.ts';
import type { Figures, SystemFigures } from '../../evaluation/report/figures.ts';
import { renderHtml } from '../../evaluation/report/html.ts';
import { describeAlso } from '../../evaluation/runs/measure-also.ts';
import type { RunContext } from '../../run/context.ts';
import { derive, type Result } from '../../run/stages/stage.ts';
import type { Published, RunReport } from './run-report.ts';

/** A student of a chain, as the family's table has it. */
const called: Readonly<Record<string, string>> = {
  assistant: 'assistant',
  query: 'query tower',
  static: 'static tower',
};

/** Rows that every run measures alike; they stand once. */
const common = new Set(['BM25', 'encoder as it was', 'student before training', 'teacher', 'embedder']);

/** Writes OUTPUT/report.json and OUTPUT/report.html of the family. The best student by the metric that decides stands for it. */
export async function publishFamily(
  run: RunContext,
  members: Readonly<Partial<Record<string, Published>>>,
): Promise<Published> {
  const names = Object.keys(members);
  const reports = Object.fromEntries(names.map((name) => [name, (members[name] as Published).report]));
  const report = derive(reports, async (all) => {
    const own = all as unknown as Record<string, RunReport>;
    const family = familyReport(run, own);
    await writeWhole(run.path('report.json'), `${JSON.stringify(family, null, 1)}\n`);
    await writeWhole(run.path('report.html'), renderHtml(figuresOf(family, madeFact(await run.data.test.value()))));
    return family;
  }) as Result<RunReport>;
  if (!run.dry) await report.value();
  const first = members[names[0]] as Published;
  return { checkpoint: first.checkpoint, report };
}

function familyReport(run: RunContext, reports: Readonly<Record<string, RunReport>>): RunReport {
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
  const sentences = all.flatMap(([name, r]) => (r.verdict ? [`${called[name] ?? name}: ${r.verdict}`] : []));
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
    pipeline: run.config.pipeline,
    report: run.path('report.json'),
    systems,
    also,
    verdict: sentences.length ? sentences.join('. ') : undefined,
    warnings: all.flatMap(([name, r]) => r.warnings.map((w) => `${name}: ${w}`)),
    members: Object.fromEntries(all.map(([name, r]) => [name, r.checkpoint])),
    seconds,
    stages: Object.assign(
      {},
      ...all.map(([name, r]) => Object.fromEntries(Object.entries(r.stages).map(([s, v]) => [`${name}/${s}`, v]))),
    ),
    config: run.config,
  };
}

const figuresOf = (report: RunReport, more: Figures['facts']): Figures => ({
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
