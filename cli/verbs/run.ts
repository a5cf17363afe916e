/** @file `distill run`: the pipeline of a config. */
import { Command } from 'commander';
import { progressReporter } from '../terminal/progress.ts';
import { collect, type Verb } from '../terminal/verb.ts';

export const run: Verb = ({ out, err, signal }) =>
  new Command('run')
    .description('run the pipeline of a config: read, score, select, weigh, train, save, evaluate, report')
    .argument('<file>', 'YAML file with the options')
    .option('--set <key=value>', 'option that overrides the file; repeatable; distill schema lists them', collect, [])
    .option('--output <dir>', 'folder for artefacts, checkpoint and report')
    .option('--memory <size>', 'limit that batches are chosen by, e.g. 4GB')
    .option('--dry-run', 'print which stages would run or be reused and why, without running any')
    .option('--no-estimate', 'of a dry run: leave out time and memory, for which models are timed on a few texts')
    .option('--json', 'print the report or the plan as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill run distill.yaml --set train.epochs=2 --output runs/two-epochs --memory 4GB\n  distill run distill.yaml --set train.learningRate=1e-4 --dry-run',
    )
    .action(
      async (
        file: string,
        options: {
          set: string[];
          output?: string;
          memory?: string;
          dryRun?: boolean;
          estimate: boolean;
          json?: boolean;
        },
      ) => {
        const { readConfig } = await import('../../config/yaml/read-yaml.ts');
        const { distill } = await import('../../pipelines/distill.ts');
        const { renderPlan, renderReport } = await import('../terminal/report.ts');
        const own = (['output', 'memory'] as const).flatMap((key) =>
          options[key] === undefined ? [] : [`${key}=${JSON.stringify(options[key])}`],
        );
        const sets = [...options.set, ...own];
        const config = readConfig(file, sets);
        const onProgress = progressReporter(err);
        if (options.dryRun) {
          const { planRun } = await import('../../pipelines/distill.ts');
          const plan = await planRun(config, { onProgress, signal }, { estimate: options.estimate });
          onProgress.end();
          out.write(options.json ? `${JSON.stringify(plan)}\n` : renderPlan(plan));
          return;
        }
        const report = await distill(config, { onProgress, signal });
        onProgress.end();
        out.write(options.json ? `${JSON.stringify(report)}\n` : renderReport(report));
      },
    );
