/** @file `distill embed`: the embedder's vectors of documents or queries, into the cache. */
import { Command } from 'commander';
import { progressReporter } from '../terminal/progress.ts';
import { collect, type Verb } from '../terminal/verb.ts';

export const embedVerb: Verb = ({ out, err, signal }) =>
  new Command('embed')
    .description("embed the documents with the config's embedder into the cache, where a run finds them")
    .argument('<file>', 'YAML file with the options')
    .option('--queries <split>', "embed the split's judged queries instead of the documents")
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
        const onProgress = progressReporter(err);
        const { queries, queue } = options;
        const report = await embedTexts(readConfig(file, sets), { queries, queue }, { onProgress, signal });
        onProgress.end();
        const by = queue ? `, ${report.fromQueue} of them embedded by workers` : '';
        const said = `${report.texts} ${report.kind} in the cache, ${report.dimensions} dimensions${by}`;
        out.write(`${options.json ? JSON.stringify(report) : said}\n`);
      },
    );
