/** @file `distill check`: whether a model can be trained here. */
import { Command } from 'commander';
import type { Verb } from '../terminal/verb.ts';

export const check: Verb = ({ out }) =>
  new Command('check')
    .description(
      'check whether a model can be trained: inputs, outputs, layers, operators without a gradient rule, memory of a step',
    )
    .argument('<model>', 'model folder')
    .option('--json', 'print the findings as JSON')
    .addHelpText('after', '\nExample:\n  distill check models/minilm-l6')
    .action(async (folder: string, options: { json?: boolean }) => {
      const { checkModel } = await import('../../models/trainability.ts');
      const { renderCheck } = await import('../terminal/report.ts');
      const found = await checkModel(folder);
      out.write(options.json ? `${JSON.stringify(found)}\n` : renderCheck(found));
    });
