/** @file `distill export`: a checkpoint's compact files, compared with it. */
import { Command } from 'commander';
import { reported, type Verb } from '../terminal/verb.ts';

const list = (value: string): string[] => value.split(',').map((v) => v.trim());

export const exportVerb: Verb = (context) =>
  new Command('export')
    .description('write compact files of a checkpoint: fewer bits, dimensions and tokens, each compared with it')
    .argument('<checkpoint>', 'folder of the checkpoint')
    .requiredOption('--output <dir>', 'folder written')
    .option('--dtype <names>', 'files to write: fp32, fp16, int8, q4, static-int8; several separated by commas', list, [
      'int8',
    ])
    .option('--dimensions <n>', 'number of leading dimensions that are kept', Number)
    .option(
      '--vocabulary <which>',
      "tokens that are kept: 'all', or 'corpus' for those of the corpus and the training queries plus a reserve",
      'all',
    )
    .option('--reserve <n>', 'further tokens that are kept when the vocabulary is reduced', Number)
    .option('--table-rank <n>', 'rank of a factorised word table; not factorised by default', Number)
    .option('--tables <dtype>', 'dtype of the word and position embeddings; that of --dtype by default')
    .option('--half <how>', "what fp16 halves: 'compute', or only the 'storage' of the weights", 'compute')
    .option(
      '--opset <n>',
      "ONNX operator set of the files (18 for @xenova/transformers 2.17); the checkpoint's by default",
      Number,
    )
    .option('--no-seal', 'do not restore the last special token of texts that a loader truncates')
    .option('--no-safetensors', 'do not write model.safetensors')
    .option('--data <dir>', 'data set whose dev split measures the files; without it nothing is measured')
    .option('--split <name>', 'split that files are measured on; dev by default')
    .option('--tolerance <share>', 'fraction of nDCG@10 that a file may lose', Number)
    .option('--strict', 'refuse files that lose more, or that cannot be measured')
    .option('--guard-queries <n>', 'number of queries that files are measured on', Number)
    .option('--guard-documents <n>', 'number of documents in which these queries are searched', Number)
    .option('--json', 'print the figures as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill export runs/student/checkpoint --dtype int8 --dimensions 128 --vocabulary corpus --output runs/student/int8',
    )
    .action(async (checkpoint: string, { json, ...options }) => {
      const { exportCheckpoint } = await import('../../checkpoints/export-checkpoint.ts');
      const { renderExport } = await import('../terminal/export-report.ts');
      await reported(context, json, (watch) => exportCheckpoint({ checkpoint, ...options }, watch), renderExport);
    });
