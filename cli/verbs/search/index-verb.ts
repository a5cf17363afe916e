/** @file `distill index`: builds an index folder from the documents of a data set. */
import { Command } from 'commander';
import { progressReporter } from '../../terminal/progress.ts';
import type { Verb } from '../../terminal/verb.ts';

export const indexVerb: Verb = ({ out, err, signal }) =>
  new Command('index')
    .description(
      "embed a data set's documents into an index folder; documents that the folder already has are not embedded again",
    )
    .argument('<checkpoint>', 'folder of the checkpoint')
    .requiredOption('--data <path>', 'BEIR folder or file of rows')
    .requiredOption('--output <dir>', 'folder of the index, created or extended')
    .option(
      '--codec <name>',
      'codec of the scanned vectors: float32, float16, int8, int4, binary, pq48, pq32, pq16; int8 by default',
    )
    .option('--rescore <codec:count>', 'codec and number of the best documents that are scored again, e.g. int8:100')
    .option('--dimensions <n>', 'scan only the first dimensions; for models trained for prefixes', Number)
    .option('--dtype <name>', 'model file that embeds: fp32, fp16, int8, q4, static-int8')
    .option(
      '--documents <dir>',
      "dual-encoder that embeds the documents, where the checkpoint's own record is out of date",
    )
    .option('--no-lexical', 'search by vectors alone, also where the checkpoint has a lexical channel')
    .option('--json', 'print the counts as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill index runs/student/checkpoint --data data/debian --output indexes/debian --codec binary --rescore int8:200',
    )
    .action(async (checkpoint: string, { json, ...options }) => {
      const { indexDocuments } = await import('../../../search/index-documents.ts');
      const onProgress = progressReporter(err);
      const report = await indexDocuments({ checkpoint, ...options }, { onProgress, signal });
      onProgress.end();
      const { documents, added, kept, bytes, hybrid, output } = report;
      out.write(
        json
          ? `${JSON.stringify(report)}\n`
          : `${documents} documents in ${output}: ${added} embedded, ${kept} already in the index; vectors ${(bytes / 1e6).toFixed(1)} MB${hybrid ? ', with BM25' : ''}\n`,
      );
    });
