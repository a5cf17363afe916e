/** @file `distill narrow`: keeps some attention heads and hidden units of each layer. */
import { Command } from 'commander';
import type { NarrowOptions, NarrowReport } from '../../../checkpoints/narrow.ts';
import { duration } from '../../../common/duration.ts';
import { checkOutputs } from '../../../common/outputs.ts';
import { reported, type Verb } from '../../terminal/verb.ts';

type Options = Omit<NarrowOptions, 'model'> & { json?: boolean };

export const narrowVerb: Verb = (context) =>
  new Command('narrow')
    .description(
      'make the layers of a dual-encoder narrower: Sequential Attention chooses heads and hidden units by embedding matching',
    )
    .argument('<model>', 'folder of a dual-encoder')
    .requiredOption('--data <dir>', 'data set whose documents and queries are read; its judgements are not')
    .requiredOption('--output <dir>', 'folder of the narrower model')
    .option('--heads <n>', 'attention heads that each layer keeps; all by default', Number)
    .option('--units <n>', 'hidden units of the feed-forward network that each layer keeps; all by default', Number)
    .option('--batch-size <n>', 'texts of a step; 32 by default', Number)
    .option('--rounds <n>', 'steps that decide a phase, of at most 16; 20 by default', Number)
    .option('--tokens <n>', 'tokens that texts are cut at; 64 by default', Number)
    .option('--seed <n>', 'random seed', Number)
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill narrow models/encoder --data data/debian --heads 6 --units 768 --output models/encoder-narrow',
    )
    .action(async (model: string, { json, ...options }: Options) => {
      await checkOutputs(options.output);
      const { narrow } = await import('../../../checkpoints/narrow.ts');
      await reported(context, json, (watch) => narrow({ model, ...options }, watch), renderNarrowed);
    });

const megabytes = (n: number): string => (n / 1e6).toFixed(1);

const renderNarrowed = ({ output, bytes, seconds }: NarrowReport): string =>
  `\nmodel       ${output}, ${megabytes(bytes.before)} to ${megabytes(bytes.after)} MB, ${duration(seconds)}\n`;
