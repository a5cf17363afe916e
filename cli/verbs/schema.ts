/** @file `distill schema`: the JSON schema of a verb's options. */
import { Argument, Command } from 'commander';
import type { Verb } from '../terminal/verb.ts';

export const schema: Verb = ({ out }) =>
  new Command('schema')
    .description('print the JSON schema of the options of a verb, for editors and for --set')
    .addArgument(new Argument('[verb]', 'whose options').choices(['run', 'train-teacher']).default('run'))
    .addHelpText('after', '\nExample:\n  distill schema > distill.schema.json\n  distill schema train-teacher')
    .action(async (verb: 'run' | 'train-teacher') => {
      const { z } = await import('zod');
      const of =
        verb === 'run'
          ? (await import('../../config/config.ts')).configSchema
          : (await import('../../config/teacher.ts')).teacherSchema;
      out.write(`${JSON.stringify(z.toJSONSchema(of, { io: 'input' }), null, 2)}\n`);
    });
