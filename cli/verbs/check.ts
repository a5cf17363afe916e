/** @file `distill check`: whether a model can be trained here. */
import { Command } from 'commander';
import type { Verb } from '../verb.ts';

export const check: Verb = ({ out }) =>
  new Command('check')
    .description(
      'say whether a model can be trained here: inputs, outputs, layers, operators without a rule, memory of a step',
    )
    .argument('<model>', 'model folder')
    .option('--json', 'print the findings as JSON')
    .addHelpText('after', '\nExample:\n  distill check models/minilm-l6')
    .action(async (folder: string, options: { json?: boolean }) => {
      const { checkModel } = await import('../../students/check.ts');
      const { renderCheck } = await import('../report.ts');
      const found = await checkModel(folder);
      out.write(options.json ? `${JSON.stringify(found)}\n` : renderCheck(found));
    });
