/** @file `distill exits`: a cross-encoder that stops early for pairs whose place is settled. */
import { Command, InvalidArgumentError } from 'commander';
import { checkOutputs } from '../../../common/outputs.ts';
import { reported, type Verb } from '../../terminal/verb.ts';

function layerList(value: string): number[] {
  const layers = value.split(',').map(Number);
  if (layers.every((n) => Number.isInteger(n) && n > 0)) return layers;
  throw new InvalidArgumentError('numbers of layers, e.g. 3,4,5.');
}

export const exitsVerb: Verb = (context) =>
  new Command('exits')
    .description('give a cross-encoder exits after earlier layers, with a certified risk, as a folder of segments')
    .argument('<teacher>', 'folder of the cross-encoder')
    .requiredOption('--data <path>', 'BEIR folder or file of rows')
    .requiredOption('--output <dir>', 'folder of the segments')
    .option('--layers <list>', 'layers after which there is an exit, from 1; the later half by default', layerList)
    .option('--split <name>', "split whose queries the exits are fitted on; the teacher's by default, or 'train'")
    .option('--queries <n>', 'most of its queries', Number, 256)
    .option('--candidates <n>', 'documents a query', Number, 20)
    .option('--lists <file>', "file of 'query-id corpus-id score' lines to fit on; BM25's best by default")
    .option(
      '--calibrate <split>',
      "split whose queries the threshold is certified on; 'none' runs all layers; the teacher's dev split by default",
    )
    .option('--calibrate-queries <n>', 'most of its queries', Number, 500)
    .option('--calibrate-lists <file>', 'as --lists, of these queries')
    .option('--risk <loss>', 'mean loss of nDCG@10 compared with all layers that is allowed', Number, 0.01)
    .option('--confidence <share>', 'probability with which the bound holds', Number, 0.9)
    .option('--no-labels', "certify consistency with the whole model's order; labels are not read")
    .option('--train-trunk <steps>', 'train the layers too, for so many steps; frozen by default', Number)
    .option('--query-tokens <n>', 'tokens of a query that the model reads', Number)
    .option('--document-tokens <n>', 'tokens of a document that the model reads', Number)
    .option('--seed <n>', 'for the order of the queries', Number, 0)
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill exits models/cross-encoder --data data/debian --layers 3,4,5 --output models/cross-encoder-exits',
    )
    .action(async (teacher: string, { json, ...options }) => {
      await checkOutputs(options.output);
      const { makeExits } = await import('../../../search/exits/exits.ts');
      const { renderExits } = await import('../../terminal/exits-report.ts');
      await reported(context, json, (watch) => makeExits({ teacher, ...options }, watch), renderExits);
    });
