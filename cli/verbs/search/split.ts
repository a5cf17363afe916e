/** @file `distill split`: a cross-encoder whose lower layers read documents alone, so that their states can be stored. */
import { Command } from 'commander';
import { checkOutputs } from '../../../common/outputs.ts';
import { providerOption } from '../../terminal/provider-option.ts';
import { reported, type Verb } from '../../terminal/verb.ts';

export const splitVerb: Verb = (context) =>
  new Command('split')
    .description(
      "split a cross-encoder at a layer, so that documents' states can be stored, and train it to the whole one",
    )
    .argument('<teacher>', 'folder of the cross-encoder')
    .requiredOption('--data <path>', 'BEIR folder or file of rows')
    .requiredOption('--output <dir>', 'folder of the split model')
    .requiredOption('--below <n>', 'layers that read query and document alone', Number)
    .option('--document-start <n>', "position of a document's first token", Number, 16)
    .option('--steps <n>', 'training steps', Number, 500)
    .option('--split <name>', "split whose queries it is trained on; the teacher's by default, or 'train'")
    .option('--queries <n>', 'most of its queries', Number, 1000)
    .option('--candidates <n>', 'documents a query', Number, 20)
    .option('--lists <file>', "file of 'query-id corpus-id score' lines that names them; BM25's best by default")
    .option('--batch-size <n>', 'queries a step', Number, 4)
    .option('--batch-candidates <n>', 'documents of each in a step', Number, 8)
    .option('--learning-rate <rate>', 'of AdamW, after a tenth of the steps; it falls to 0', Number, 1e-4)
    .option(
      '--evaluate <split>',
      "split that it is measured on before and after, or 'none'; the teacher's dev split by default",
    )
    .option('--evaluate-queries <n>', 'most of its queries', Number, 100)
    .option('--evaluate-lists <file>', 'as --lists, of these queries')
    .option('--query-tokens <n>', 'tokens of a query that the model reads', Number)
    .option('--document-tokens <n>', 'tokens of a document that the model reads', Number)
    .addOption(providerOption('where it is trained, and where the whole model computes'))
    .option('--seed <n>', 'for the order of the queries', Number, 0)
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill split models/cross-encoder --data data/debian --below 3 --output models/cross-encoder-split',
    )
    .action(async (teacher: string, { json, ...options }) => {
      await checkOutputs(options.output);
      const { makeSplit } = await import('../../../search/split/split.ts');
      const { renderSplit } = await import('../../terminal/split-report.ts');
      await reported(context, json, (watch) => makeSplit({ teacher, ...options }, watch), renderSplit);
    });
