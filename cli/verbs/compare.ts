/** @file `distill compare`: compares runs. */
import { Command } from 'commander';
import { checkOutputs } from '../../common/outputs.ts';
import type { Verb } from '../terminal/verb.ts';

export const compare: Verb = ({ out }) =>
  new Command('compare')
    .description('compare runs with the first one, query by query')
    .argument('<runs...>', 'output folders of finished runs, or files that evaluate --json wrote')
    .option('--html <file>', 'file for an HTML report')
    .option('--json <file>', 'file for the figures as JSON')
    .option('--seed <n>', 'random seed of the resampling', Number, 0)
    .addHelpText('after', '\nExample:\n  distill compare runs/a runs/b --html compare.html')
    .action(async (runs: string[], options: { html?: string; json?: string; seed: number }) => {
      await checkOutputs(options.html, options.json);
      const { compareRuns } = await import('../../evaluation/systems/compare-runs.ts');
      const { renderCompared } = await import('../terminal/figures.ts');
      out.write(renderCompared(await compareRuns({ runs, ...options })));
    });
