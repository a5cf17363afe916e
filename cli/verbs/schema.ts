/** @file `distill schema`: the JSON schema of a config. */
import { Command } from 'commander';
import type { Verb } from '../terminal/verb.ts';

export const schema: Verb = ({ out }) =>
  new Command('schema')
    .description('print the JSON schema of a config, for editors')
    .addHelpText('after', '\nExample:\n  distill schema > distill.schema.json')
    .action(async () => {
      const { z } = await import('zod');
      const { configSchema } = await import('../../pipelines/config/config.ts');
      out.write(`${JSON.stringify(z.toJSONSchema(configSchema, { io: 'input' }), null, 2)}\n`);
    });
