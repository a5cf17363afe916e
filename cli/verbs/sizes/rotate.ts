/** @file `distill rotate`: makes a dual-encoder's vectors truncatable by a rotation. */
import { Command } from 'commander';
import type { RotateReport } from '../../../checkpoints/rotate.ts';
import type { Selection } from '../../../checkpoints/rotate-options.ts';
import { duration } from '../../../common/duration.ts';
import { checkOutputs } from '../../../common/outputs.ts';
import { reported, type Verb } from '../../terminal/verb.ts';

interface Options {
  data: string;
  output: string;
  dimensions?: number[];
  like?: string;
  select?: Selection;
  keep?: number;
  queryTokens?: number;
  documentTokens?: number;
  steps?: number;
  seed?: number;
  json?: boolean;
}

const widths = (value: string): number[] => value.split(',').map(Number);

export const rotateVerb: Verb = (context) =>
  new Command('rotate')
    .description("rotate a dual-encoder's vectors so that they can be truncated; whole vectors keep their dot products")
    .argument('<model>', 'folder of a dual-encoder')
    .requiredOption(
      '--data <dir>',
      'data set whose documents and training queries the rotation is learned from; its judgements are not read',
    )
    .requiredOption('--output <dir>', 'folder of the rotated model')
    .option('--dimensions <n,...>', 'widths to optimise for; fractions of the full width by default', widths)
    .option('--like <dir>', 'rotated model whose rotation is reused')
    .option(
      '--select <how>',
      'rotation; or, with --keep: projection, a learned map to fewer dimensions; sequential-attention, some dimensions as they are, which ranks far worse',
    )
    .option('--keep <n>', 'dimensions that a projection or a selection leaves', Number)
    .option('--query-tokens <n>', "tokens of a query; the model's limit by default", Number)
    .option('--document-tokens <n>', "tokens of a document; the model's limit by default", Number)
    .option('--steps <n>', 'training steps', Number)
    .option('--seed <n>', 'random seed', Number)
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill rotate models/large --data data/debian --dimensions 192,96,48 --output models/large-rotated',
    )
    .action(async (model: string, { json, ...options }: Options) => {
      await checkOutputs(options.output);
      const { rotate } = await import('../../../checkpoints/rotate.ts');
      await reported(context, json, (watch) => rotate({ model, ...options }, watch), renderRotation);
    });

function renderRotation({ prefixes, output, seconds }: RotateReport): string {
  const table = prefixes?.map(
    (p) => `${String(p.dimensions).padStart(10)}  ${p.before.toFixed(4)}  ${p.after.toFixed(4)}`,
  );
  return [
    '',
    ...(table ? ['dimensions  cut     rotated   nDCG@10 on dev', ...table, ''] : []),
    `model       ${output}, ${duration(seconds)}`,
    '',
  ].join('\n');
}
