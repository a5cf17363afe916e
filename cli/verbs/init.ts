/** @file `distill init`: a config for what a folder holds. */
import { join } from 'node:path';
import { Command } from 'commander';
import type { Verb } from '../terminal/verb.ts';

export const init: Verb = ({ out }) =>
  new Command('init')
    .description('find data and models in a folder and write a commented config that can be run without changes')
    .argument('[folder]', 'folder with data (BEIR layout or files of rows), model folders, files of scores', '.')
    .option('--file <file>', 'file for the config; FOLDER/distill.yaml by default')
    .addHelpText('after', '\nExample:\n  distill init my-data && distill run my-data/distill.yaml')
    .action(async (folder: string, options: { file?: string }) => {
      const { init } = await import('../../config/init/init.ts');
      const file = options.file ?? join(folder, 'distill.yaml');
      const chosen = await init(folder, file);
      out.write(`${chosen.join('\n')}\nwrote ${file}; next: distill run ${file}\n`);
    });
