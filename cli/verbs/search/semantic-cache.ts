/** @file `distill semantic-cache`: from which similarity on a query may take the answer of an earlier one. */
import { Command } from 'commander';
import { checkOutputs } from '../../../common/outputs.ts';
import { reported, type Verb } from '../../terminal/verb.ts';

export const semanticCacheVerb: Verb = (context) =>
  new Command('semantic-cache')
    .description('certify from which similarity on a query may take the answer of an earlier one')
    .argument('<index>', 'folder of the index')
    .requiredOption('--data <path>', 'BEIR folder or file of rows that the index was made of')
    .requiredOption('--output <file>', 'semantic-cache.json')
    .option('--cascade <file>', 'cascade.json that searches go through')
    .option(
      '--calibrate <split>',
      "split whose queries are calibrated on, or 'unjudged'; the run's dev split by default",
    )
    .option('--risk <loss>', 'mean loss of nDCG@10 that is allowed', Number, 0.01)
    .option('--confidence <share>', 'probability with which the bound holds', Number, 0.9)
    .option('--no-labels', 'the answer that the search itself gives is the truth; labels are not read')
    .option('--encoder <dir>', 'folder of the checkpoint, where it was moved')
    .option('--seed <n>', 'for the stream and the order of the queries', Number, 0)
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill semantic-cache indexes/debian --data data/debian --risk 0.005 --output semantic-cache.json\n  distill serve indexes/debian --semantic-cache semantic-cache.json',
    )
    .action(async (index: string, { json, ...options }) => {
      await checkOutputs(options.output);
      const { semanticCache } = await import('../../../search/semantic-cache.ts');
      const { renderSemanticCache } = await import('../../terminal/semantic-cache-report.ts');
      await reported(context, json, (watch) => semanticCache({ index, ...options }, watch), renderSemanticCache);
    });
