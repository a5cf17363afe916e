/** @file `distill worker`: scores pairs for `distill score --queue` and embeds texts for `distill embed --queue`, on any machine that has the model. */
import { Command } from 'commander';
import type { WorkerOptions } from '../../teachers/queue/worker.ts';
import { progressReporter } from '../terminal/progress.ts';
import { providerOption } from '../terminal/provider-option.ts';
import type { Verb } from '../terminal/verb.ts';

export const worker: Verb = ({ out, err, signal }) =>
  new Command('worker')
    .description(
      'score the pairs of distill score --queue and embed the texts of distill embed --queue until Ctrl-C; any number of workers on any machines',
    )
    .requiredOption('--queue <url>', 'address of the queue, e.g. redis://host:6379')
    .option(
      '--model <dir>',
      "folder of the teacher's model; by default the path or hub name that the command that asks uses",
    )
    .addOption(providerOption('where the model computes'))
    .option('--threads <n>', 'CPU threads', Number)
    .option(
      '--lease <seconds>',
      'seconds without a heartbeat after which the work of a worker goes to another',
      Number,
      30,
    )
    .addHelpText(
      'after',
      '\nExample:\n  distill worker --queue redis://scores.example:6379 --model models/cross-encoder',
    )
    .action(async ({ queue, lease, ...options }: WorkerOptions & { queue: string; lease: number }) => {
      const { runWorker } = await import('../../teachers/queue/worker.ts');
      const onProgress = progressReporter(err);
      const report = await runWorker(queue, { ...options, lease: 1000 * lease }, { onProgress, signal });
      onProgress.end();
      const texts = report.texts ? ` and ${report.texts} texts embedded` : '';
      out.write(`${report.pairs} pairs scored${texts} in ${report.jobs} ranges\n`);
    });
