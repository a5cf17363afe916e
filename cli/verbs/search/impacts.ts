/** @file `distill impacts`: a sparse student's documents and queries for Lucene and OpenSearch. */
import { Command } from 'commander';
import type { ImpactOptions } from '../../../checkpoints/write-impacts.ts';
import { reported, type Verb } from '../../terminal/verb.ts';

interface Options extends ImpactOptions {
  json?: boolean;
}

export const impactsVerb: Verb = (context) =>
  new Command('impacts')
    .description("write a sparse student's documents and queries as impacts that Lucene and OpenSearch index")
    .requiredOption('--student <dir>', 'folder of a sparse student')
    .requiredOption('--data <path>', 'data set whose documents are written')
    .requiredOption('--output <dir>', 'folder of documents.jsonl, queries.tsv and idf.json')
    .option('--split <name>', "split whose queries are written; its run's test split by default")
    .option('--factor <n>', "what documents' weights are multiplied by before they are rounded", Number, 100)
    .option('--contents', "write the documents' texts too")
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill impacts --student runs/sparse/checkpoint --data data/debian --output impacts',
    )
    .action(async ({ json, ...options }: Options) => {
      const { writeImpacts } = await import('../../../checkpoints/write-impacts.ts');
      await reported(
        context,
        json,
        (watch) => writeImpacts(options, watch),
        ({ documents, queries, postings, files }) =>
          `\n${documents} documents with ${postings} impacts, ${queries} queries\n${files.join('\n')}\n`,
      );
    });
