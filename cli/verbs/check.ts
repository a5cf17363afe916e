/** @file `distill check`: whether a model can be trained here. */
import { Command } from 'commander';
import { InputError } from '../../common/errors.ts';
import type { Verb } from '../terminal/verb.ts';

/** Whether a model that training cannot read gives vectors when ONNX Runtime runs it unchanged. */
async function embeds(folder: string): Promise<boolean> {
  const { Encoder } = await import('../../models/encoder.ts');
  try {
    await (await Encoder.load(folder)).dispose();
    return true;
  } catch (error) {
    if (error instanceof InputError) return false;
    throw error;
  }
}

export const check: Verb = ({ out }) =>
  new Command('check')
    .description(
      'say whether a model can be trained here, by taking a step (inputs, outputs, layers, operators without a rule, memory), and, of a re-ranker, how it scores',
    )
    .argument('<model>', 'model folder')
    .option('--json', 'print the findings as JSON')
    .addHelpText('after', '\nExample:\n  distill check models/minilm-l6')
    .action(async (folder: string, options: { json?: boolean }) => {
      const { checkStudent } = await import('../../training/check-student.ts');
      const { checkTeacher } = await import('../../teachers/check-teacher.ts');
      const { renderCheck, renderTeacher } = await import('../terminal/report.ts');
      const teacher = await checkTeacher(folder);
      const found = await checkStudent(folder).catch(async (error: Error) => {
        // A model for inference only may have features that training cannot read.
        if (!(error instanceof InputError)) throw error;
        if (!teacher) {
          if (!(await embeds(folder))) throw error;
          if (!options.json) out.write('it gives vectors, so it can be an embedder or a dual-encoder teacher\n');
        }
        return { file: teacher?.file ?? folder, trainable: false, problem: error.message };
      });
      if (options.json) out.write(`${JSON.stringify(teacher ? { ...found, teacher } : found)}\n`);
      else
        out.write(
          (teacher ? renderTeacher(teacher) : '') +
            ('opset' in found ? renderCheck(found) : `it cannot be trained here: ${found.problem}\n`),
        );
      if (!found.trainable && !teacher)
        throw new InputError({
          code: 'check.no',
          subject: found.problem ?? `${folder} cannot be trained here`,
          remedy: 'a run with it would fail in the same way: change the model or choose another',
        });
    });
