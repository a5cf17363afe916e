/** @file `distill push`: a checkpoint onto the Hugging Face hub. */
import { Command } from 'commander';
import { progressReporter } from '../terminal/progress.ts';
import type { Verb } from '../terminal/verb.ts';

export const push: Verb = ({ out, err, signal }) =>
  new Command('push')
    .description(
      'upload a checkpoint with its model card to the Hugging Face hub; the access token is read from HF_TOKEN',
    )
    .argument('<checkpoint>', 'folder of the checkpoint')
    .argument('<name>', 'org/name on the hub; created where it does not exist')
    .option('--private', 'create the repository as private')
    .option('--branch <name>', 'branch to push to', 'main')
    .option('--message <text>', 'title of the commit')
    .addHelpText('after', '\nExample:\n  distill push runs/student/int8 my-name/debian-student')
    .action(async (checkpoint: string, name: string, options) => {
      const { pushModel } = await import('../../models/push.ts');
      const onProgress = progressReporter(err);
      const url = await pushModel(checkpoint, name, { ...options, onProgress, signal });
      onProgress.end();
      out.write(`${url}\n`);
    });
