/** @file `distill score`: the teacher's scores of a split's candidates, into a file. */
import { Command } from 'commander';
import { checkOutputs } from '../../common/outputs.ts';
import { collect, reported, type Verb } from '../terminal/verb.ts';

export const score: Verb = (context) =>
  new Command('score')
    .description("score a split's candidates with the config's teacher and write them to a file")
    .argument('<file>', 'YAML file with the options')
    .option('--split <name>', 'split whose queries are scored', 'train')
    .option('--scores <file>', "file for the lines 'query-id corpus-id score'", 'teacher-scores.tsv')
    .option('--set <key=value>', 'option that overrides the file; repeatable; distill schema lists them', collect, [])
    .option('--memory <size>', 'limit that batches are chosen by, e.g. 4GB')
    .option('--queue <url>', 'address of a queue whose workers score, e.g. redis://host:6379; see distill worker')
    .option('--json', 'print the counts as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill score distill.yaml --split train --scores teacher-scores-train.tsv\n  distill score distill.yaml --queue redis://scores.example:6379',
    )
    .action(
      async (
        file: string,
        options: { split: string; scores: string; set: string[]; memory?: string; queue?: string; json?: boolean },
      ) => {
        await checkOutputs(options.scores);
        const { readConfig } = await import('../../config/yaml/read-yaml.ts');
        const { score } = await import('../../teachers/jobs/score.ts');
        const sets = options.memory ? [...options.set, `memory=${JSON.stringify(options.memory)}`] : options.set;
        const { split, scores, queue, json } = options;
        const config = readConfig(file, sets);
        await reported(
          context,
          json,
          (watch) => score(config, split, scores, watch, { queue }),
          (report) =>
            `${report.pairs} pairs of ${report.queries} queries scored into ${report.file}${queue ? `, ${report.fromQueue} of them by workers` : ''}\n`,
        );
      },
    );
