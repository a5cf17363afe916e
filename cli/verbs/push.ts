/** @file `distill push`: a checkpoint onto the Hugging Face hub. */
import { Command } from 'commander';
import { progressReporter } from '../terminal/progress.ts';
import type { Verb } from '../terminal/verb.ts';

export const push: Verb = ({ out, err, signal }) =>
  new Command('push')
    .description('upload a checkpoint with its card to the Hugging Face hub; HF_TOKEN is the access token')
    .argument('<checkpoint>', 'folder of the checkpoint')
    .argument('<name>', 'org/name on the hub; made where there is none')
    .option('--private', 'make it private where it is made')
    .option('--branch <name>', 'branch pushed to', 'main')
    .option('--message <text>', "the commit's title")
    .addHelpText('after', '\nExample:\n  distill push runs/student/int8 my-name/debian-student')
    .action(async (checkpoint: string, name: string, options) => {
      const { pushModel } = await import('../../models/push.ts');
      const onProgress = progressReporter(err);
      const url = await pushModel(checkpoint, name, { ...options, onProgress, signal });
      onProgress.end();
      out.write(`${url}\n`);
    });
