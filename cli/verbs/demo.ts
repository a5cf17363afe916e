/** @file `distill demo`: the main pipeline on a small generated data set. */
import { dirname, join } from 'node:path';
import { Command } from 'commander';
import { duration } from '../../common/duration.ts';
import type { DemoReport } from '../../demo-world/demo.ts';
import { reported, type Verb } from '../terminal/verb.ts';

export const demo: Verb = (context) =>
  new Command('demo')
    .description(
      'run the main pipeline on a small generated data set: train a teacher, distil it, and report the quality of each',
    )
    .option('--quick', 'use smaller data and a shorter training')
    .option('--folder <dir>', 'folder for data, teacher, config, checkpoint and reports', 'demo')
    .option('--seed <n>', 'random seed of the data and of the training', Number, 0)
    .option('--memory <size>', 'limit that batches are chosen by, e.g. 4GB')
    .option('--json', 'print the report as JSON')
    .addHelpText('after', '\nExample:\n  distill demo\n  distill run demo/distill.yaml --set train.steps=800')
    .action(async (options: { quick?: boolean; folder: string; seed: number; memory?: string; json?: boolean }) => {
      const { demo } = await import('../../demo-world/demo.ts');
      const { renderSystems } = await import('../terminal/report.ts');
      await reported(
        context,
        options.json,
        (watch) => demo(options, watch),
        (report) => renderDemo(report, renderSystems(report.systems)),
      );
    });

function renderDemo(report: DemoReport, table: readonly string[]): string {
  const { folder, teacher, labels, distilled, seconds } = report;
  const size = (parameters: number): string => `${(parameters / 1000).toFixed(0)} k parameters`;
  return [
    '',
    ...table,
    '',
    `teacher     ${size(teacher.parameters)}, ${folder}/teacher; re-ranks what the distilled student finds`,
    `student     ${size(distilled.student.parameters)}, ${distilled.student.queryMilliseconds.toFixed(1)} ms per query, ${distilled.checkpoint}`,
    `data        ${folder}/data`,
    `time        ${duration(seconds)}`,
    `report      ${join(dirname(distilled.report), 'report.html')}`,
    `compare     distill compare ${dirname(labels.report)} ${dirname(distilled.report)} --html ${folder}/compare.html`,
    `next        distill run ${folder}/distill.yaml --set train.steps=800`,
    '',
  ].join('\n');
}
