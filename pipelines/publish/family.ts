/** @file The end of a chain: one report of its students. */
import { writeWhole } from '../../common/files.ts';
import { madeFact } from '../../evaluation/report/facts.ts';
import { renderHtml } from '../../evaluation/report/html.ts';
import { familyFigures, familyReport } from '../../evaluation/runs/family-report.ts';
import type { RunReport } from '../../evaluation/runs/run-report.ts';
import type { RunContext } from '../../run/context.ts';
import { derive, type Result } from '../../run/stages/stage.ts';
import { PAGE, type Published, REPORT } from './report-stage.ts';

/** Writes OUTPUT/report.json and OUTPUT/report.html of the family. The best student by the metric that decides stands for it. */
export async function publishFamily(
  run: RunContext,
  members: Readonly<Partial<Record<string, Published>>>,
): Promise<Published> {
  const names = Object.keys(members);
  const reports = Object.fromEntries(names.map((name) => [name, (members[name] as Published).report]));
  const report = derive(reports, async (all) => {
    const own = all as unknown as Record<string, RunReport>;
    const family = familyReport(own, { config: run.config, report: run.path(REPORT) });
    await writeWhole(run.path(REPORT), `${JSON.stringify(family, null, 1)}\n`);
    await writeWhole(
      run.path(PAGE),
      renderHtml(familyFigures(family, madeFact(await run.data.test.value(), run.config.data.splits.test))),
    );
    return family;
  }) as Result<RunReport>;
  if (!run.dry) await report.value();
  const first = members[names[0]] as Published;
  return { checkpoint: first.checkpoint, report };
}
