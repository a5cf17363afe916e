/** @file `distill train-teacher`: trains a cross-encoder on labels. */
import { Command } from 'commander';
import { duration } from '../../common/duration.ts';
import { progressReporter } from '../terminal/progress.ts';
import { collect, type Verb } from '../terminal/verb.ts';

interface Options {
  data: string;
  model?: string;
  head?: string;
  fresh?: boolean;
  output: string;
  candidates?: string;
  memory?: string;
  set: string[];
  json?: boolean;
}

export const trainTeacher: Verb = ({ out, err, signal }) =>
  new Command('train-teacher')
    .description('train a cross-encoder on judgements, from a model or from random weights, as the teacher of a run')
    .requiredOption('--data <dir>', 'BEIR folder')
    .option('--model <dir>', 'cross-encoder to continue from, or encoder to which a head is added')
    .option(
      '--head <kind>',
      "head of the model: 'dual-pooling' scores by the cosine of its query and document vectors, for pair-matching",
    )
    .option('--fresh', 'start from random weights and a vocabulary learned from the data')
    .option('--output <dir>', 'folder of the trained model', 'runs/teacher')
    .option('--candidates <file>', "file of 'query-id corpus-id score' lines, in place of retrieved candidates")
    .option('--memory <size>', 'limit that batches are chosen by, e.g. 4GB')
    .option(
      '--set <key=value>',
      'any other option, e.g. train.steps=300; repeatable; distill schema train-teacher lists them',
      collect,
      [],
    )
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill train-teacher --data data/debian --model models/minilm-l6 --set train.steps=300 --output runs/teacher',
    )
    .action(async ({ set, json, fresh, candidates, ...given }: Options) => {
      const { applySet } = await import('../../config/yaml/read-yaml.ts');
      const { trainTeacher } = await import('../../teachers/jobs/train-teacher.ts');
      const onProgress = progressReporter(err);
      const options: unknown = set.reduce(applySet, {
        ...given,
        ...(fresh ? { fresh: {} } : {}),
        ...(candidates ? { candidates: { source: 'given', files: { train: candidates } }, dev: null } : {}),
      });
      const report = await trainTeacher(options as Parameters<typeof trainTeacher>[0], {
        onProgress,
        signal,
      });
      onProgress.end();
      const best = report.evaluations.find((e) => e.step === report.bestStep);
      out.write(
        json
          ? `${JSON.stringify(report)}\n`
          : [
              '',
              ...(report.verdict ? [`${report.verdict}.`, ''] : []),
              `teacher     ${(report.parameters / 1e6).toFixed(2)} M parameters, ${report.steps} steps, loss ${report.loss.toPrecision(4)}, ${duration(report.seconds)}`,
              ...(best
                ? [
                    `dev         ndcg@10 ${best.score.toFixed(4)} over the candidates at step ${best.step}${described(report.dev)}`,
                  ]
                : []),
              `model       ${report.model}`,
              '',
            ].join('\n'),
      );
    });

/** The systems that the user had, on the same candidates. */
function described(dev: { encoder?: number; bm25?: number } | undefined): string {
  const had = [
    dev?.encoder === undefined ? [] : [`the encoder as it was ${dev.encoder.toFixed(4)}`],
    dev?.bm25 === undefined ? [] : [`BM25 ${dev.bm25.toFixed(4)}`],
  ].flat();
  return had.length ? ` (${had.join(', ')})` : '';
}
