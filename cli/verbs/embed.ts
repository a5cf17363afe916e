/** @file `distill embed`: the embedder's vectors of documents or queries, into the cache. */
import { Command } from 'commander';
import { collect, reported, type Verb } from '../terminal/verb.ts';

export const embedVerb: Verb = (context) =>
  new Command('embed')
    .description("embed the documents with the config's embedder into the cache, where a run finds them")
    .argument('<file>', 'YAML file with the options')
    .option('--queries <split>', "embed the split's queries instead of the documents")
    .option('--set <key=value>', 'option that overrides the file; repeatable; distill schema lists them', collect, [])
    .option('--memory <size>', 'limit that batches are chosen by, e.g. 4GB')
    .option('--queue <url>', 'address of a queue whose workers embed, e.g. redis://host:6379; see distill worker')
    .option('--json', 'print the counts as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill embed distill.yaml\n  distill embed distill.yaml --queue redis://scores.example:6379',
    )
    .action(
      async (
        file: string,
        options: { queries?: string; set: string[]; memory?: string; queue?: string; json?: boolean },
      ) => {
        const { readConfig } = await import('../../config/yaml/read-yaml.ts');
        const { embedTexts } = await import('../../teachers/jobs/embed.ts');
        const sets = options.memory ? [...options.set, `memory=${JSON.stringify(options.memory)}`] : options.set;
        const { queries, queue, json } = options;
        const config = readConfig(file, sets);
        await reported(
          context,
          json,
          (watch) => embedTexts(config, { queries, queue }, watch),
          ({ texts, kind, dimensions, fromQueue }) =>
            `${texts} ${kind} in the cache, ${dimensions} dimensions${queue ? `, ${fromQueue} of them embedded by workers` : ''}\n`,
        );
      },
    );
