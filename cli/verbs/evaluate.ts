/** @file `distill evaluate`: what a saved student finds, beside its teacher. */
import { Command } from 'commander';
import { progressReporter } from '../progress.ts';
import type { Verb } from '../verb.ts';

export const evaluate: Verb = ({ out, err, signal }) =>
  new Command('evaluate')
    .description('measure a saved student by exact search, beside its teacher where one is given')
    .requiredOption('--student <dir>', 'checkpoint of the student')
    .option('--teacher <dir>', "cross-encoder that re-ranks the student's candidates")
    .option('--documents <dir>', 'dual-encoder whose document embeddings the student searches')
    .requiredOption('--data <dir>', 'BEIR folder')
    .option('--split <name>', 'judgements to evaluate with', 'test')
    .option('--depth <n>', 'documents a query that the teacher re-ranks', Number, 100)
    .option('--run <file>', "write the student's TREC run")
    .option('--json <file>', 'write the figures as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill evaluate --student runs/student/checkpoint --data data/debian --split test --json figures.json',
    )
    .action(async (options) => {
      const { evaluate } = await import('../../pipelines/evaluate.ts');
      const { renderSystems } = await import('../report.ts');
      const onProgress = progressReporter(err);
      const report = await evaluate(options, { onProgress, signal });
      onProgress.end();
      out.write(`${renderSystems(report.systems).join('\n')}\n`);
      const kept = report.retention?.['ndcg@10'];
      if (kept !== undefined) out.write(`keeps ${(100 * kept).toFixed(1)} % of the teacher's ndcg@10\n`);
    });
