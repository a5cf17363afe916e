/** @file `distill check`: whether a model can be trained here. */
import { Command } from 'commander';
import { InputError } from '../../common/errors.ts';
import type { Verb } from '../terminal/verb.ts';

export const check: Verb = ({ out }) =>
  new Command('check')
    .description(
      'say whether a model can be trained here, by taking a step: inputs, outputs, layers, operators without a rule, memory',
    )
    .argument('<model>', 'model folder')
    .option('--json', 'print the findings as JSON')
    .addHelpText('after', '\nExample:\n  distill check models/minilm-l6')
    .action(async (folder: string, options: { json?: boolean }) => {
      const { checkStudent } = await import('../../pipelines/check-student.ts');
      const { renderCheck } = await import('../terminal/report.ts');
      const found = await checkStudent(folder);
      out.write(options.json ? `${JSON.stringify(found)}\n` : renderCheck(found));
      if (!found.trainable)
        throw new InputError({
          code: 'check.no',
          subject: found.problem ?? `${folder} cannot be trained here`,
          remedy: 'a run with it would fail in the same way: change the model or choose another',
        });
    });
