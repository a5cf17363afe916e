/** @file `distill cascade`: fits and certifies a rule for deferral to the teacher on the user's queries. */
import { Command } from 'commander';
import { checkOutputs } from '../../../common/outputs.ts';
import { providerOption } from '../../terminal/provider-option.ts';
import { reported, type Verb } from '../../terminal/verb.ts';

export const cascadeVerb: Verb = (context) =>
  new Command('cascade')
    .description('fit a rule for when and how deep the teacher re-ranks a query, with a certified bound on the loss')
    .requiredOption('--student <dir>', 'checkpoint of the student')
    .requiredOption('--teacher <dir>', 'folder of the cross-encoder')
    .requiredOption('--data <path>', 'BEIR folder or file of rows')
    .requiredOption('--output <file>', 'file written: cascade.json')
    .option(
      '--calibrate <split>',
      "split whose queries are used for calibration, or 'unjudged'; the run's dev split by default",
    )
    .option('--risk <share>', 'mean loss of nDCG@10 that is allowed compared with re-ranking everything', Number, 0.01)
    .option('--confidence <share>', 'probability with which the bound holds', Number, 0.9)
    .option('--no-labels', "certify consistency with the teacher's order; labels are not read")
    .option('--candidates <n>', 'documents per query that the student retrieves', Number, 100)
    .option('--rule <name>', 'auto, margin, entropy, gap, diff-01, diff-ndcg or diff-selected', 'auto')
    .option('--bound <name>', 'betting, hoeffding or hoeffding-bentkus', 'betting')
    .option('--loss <kind>', "'clipped': gains count 0; 'signed': gains make up for losses", 'clipped')
    .option('--index <dir>', "index of the data's documents that is searched; exact vectors by default")
    .option('--dtype <name>', "the student's model file: fp32, fp16, int8, q4")
    .addOption(providerOption('where student and teacher compute'))
    .option('--query-tokens <n>', 'maximum tokens of a query for the teacher', Number)
    .option('--document-tokens <n>', 'maximum tokens of a document for the teacher', Number)
    .option('--seed <n>', 'random seed of the order of queries', Number, 0)
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill cascade --student runs/student/checkpoint --teacher models/minilm-l6 --data data/debian --calibrate dev --risk 0.01 --confidence 0.9 --output cascade.json',
    )
    .action(async ({ json, ...options }) => {
      await checkOutputs(options.output);
      const { cascade } = await import('../../../search/fit-cascade.ts');
      const { renderCascade } = await import('../../terminal/cascade-report.ts');
      await reported(context, json, (watch) => cascade(options, watch), renderCascade);
    });
