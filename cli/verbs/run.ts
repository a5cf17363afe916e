/** @file `distill run`: the pipeline of a config. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { InputError } from '../../common/errors.ts';
import type { StagePlan } from '../../run/stages/run-log.ts';
import { collect, reported, type Verb } from '../terminal/verb.ts';

export const run: Verb = (context) =>
  new Command('run')
    .description('run the pipeline of a config: read, score, select, weigh, train, save, evaluate, report')
    .argument('<file>', 'YAML file with the options')
    .option('--set <key=value>', 'option that overrides the file; repeatable; distill schema lists them', collect, [])
    .option('--output <dir>', 'folder for artefacts, checkpoint and report')
    .option(
      '--continue <checkpoint>',
      'go on from this checkpoint of the config with the queries of --data, see docs/running.md',
    )
    .option('--data <path>', 'with --continue: the new data; data.path of the file names the old')
    .option('--memory <size>', 'limit that batches are chosen by, e.g. 4GB')
    .option('--dry-run', 'print which stages would run or be reused and why, without running any')
    .option('--no-estimate', 'leave out time and memory, for which models are timed on a few texts')
    .option('--json', 'print the report or the plan as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill run distill.yaml --set train.epochs=2 --output runs/two-epochs --memory 4GB\n  distill run distill.yaml --set train.learningRate=1e-4 --dry-run\n  distill run distill.yaml --continue runs/student/checkpoint --data logs/june --output runs/june',
    )
    .action(
      async (
        file: string,
        options: {
          set: string[];
          output?: string;
          memory?: string;
          continue?: string;
          data?: string;
          dryRun?: boolean;
          estimate: boolean;
          json?: boolean;
        },
      ) => {
        const { readConfig } = await import('../../config/yaml/read-yaml.ts');
        const { distill, planRun } = await import('../../pipelines/distill.ts');
        const { renderPlan, renderReport } = await import('../terminal/report.ts');
        const own = (['output', 'memory'] as const).flatMap((key) =>
          options[key] === undefined ? [] : [`${key}=${JSON.stringify(options[key])}`],
        );
        const sets = [...options.set, ...own];
        const config = readConfig(file, [...sets, ...continuing(options)]);
        const { json, dryRun, estimate } = options;
        if (dryRun) return reported(context, json, (watch) => planRun(config, watch, { estimate }), renderPlan);
        await reported(
          context,
          json,
          (watch, print) => {
            const onPlan = (plan: readonly StagePlan[]): void => print(`${renderPlan(plan)}\n`);
            return distill(config, watch, estimate ? { onPlan } : {});
          },
          renderReport,
        );
      },
    );

/** The options of a run that goes on from a checkpoint. @throws InputError where one of the two is missing */
function continuing({ continue: from, data }: { continue?: string; data?: string }): string[] {
  if (from === undefined && data === undefined) return [];
  if (from === undefined || data === undefined)
    throw new InputError({
      code: 'cli.continue',
      subject:
        from === undefined ? '--data names new data for --continue, which is missing' : '--continue needs --data',
      remedy:
        from === undefined
          ? 'give --continue CHECKPOINT, or name the data of a new student with --set data.path=...'
          : 'name the folder of the new queries and judgements with --data',
    });
  // Paths of a config are relative to its file, those of a command to where it runs.
  const own = (path: string): string => JSON.stringify(existsSync(path) ? resolve(path) : path);
  return [`continue.from=${own(from)}`, `continue.data=${own(data)}`];
}
