/** @file The command's verbs. Heavy modules are loaded by the verb that needs them. */
import { Command, CommanderError } from 'commander';
import { InputError } from '../common/errors.ts';
import { progressReporter, type Screen } from './progress.ts';

export interface Terminal {
  out: Screen;
  err: Screen;
}

const collect = (value: string, all: string[]): string[] => [...all, value];

export function program(terminal: Terminal, signal: AbortSignal): Command {
  const { out, err } = terminal;
  const cli = new Command('distill')
    .description('Distil a slow ONNX cross-encoder into a compact dual-encoder.')
    .version('0.1.0')
    .option('--verbose', 'show the stack of an error')
    .configureOutput({ writeOut: (s) => out.write(s), writeErr: (s) => err.write(s) })
    .exitOverride();

  cli
    .command('run')
    .description('run the pipeline of a config: read, score, select, weigh, train, save, evaluate, report')
    .argument('<file>', 'YAML file with the options')
    .option('--set <key=value>', 'override an option of the file; may be given again', collect, [])
    .option('--output <dir>', 'folder for artefacts, checkpoint and report')
    .option('--json', 'print the report as JSON')
    .addHelpText('after', '\nExample:\n  distill run distill.yaml --set train.epochs=2 --output runs/two-epochs')
    .action(async (file: string, options: { set: string[]; output?: string; json?: boolean }) => {
      const { readConfig } = await import('../pipelines/config-file.ts');
      const { distill } = await import('../pipelines/distill.ts');
      const { renderReport } = await import('./report.ts');
      const sets = options.output ? [...options.set, `output=${JSON.stringify(options.output)}`] : options.set;
      const config = readConfig(file, sets);
      const onProgress = progressReporter(err);
      const report = await distill(config, { onProgress, signal });
      onProgress.end();
      out.write(options.json ? `${JSON.stringify(report)}\n` : renderReport(report));
    });

  cli
    .command('evaluate')
    .description('measure a saved student by exact search, beside its teacher where one is given')
    .requiredOption('--student <dir>', 'checkpoint of the student')
    .option('--teacher <dir>', "cross-encoder that re-ranks the student's candidates")
    .option('--documents <dir>', 'dual-encoder whose document embeddings the student searches')
    .requiredOption('--data <dir>', 'BEIR folder')
    .option('--split <name>', 'judgements to evaluate with', 'test')
    .option('--depth <n>', 'documents a query that the teacher re-ranks', Number, 100)
    .option('--run <file>', "write the student's TREC run")
    .option('--json <file>', 'write the figures as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill evaluate --student runs/student/checkpoint --data data/debian --split test --json figures.json',
    )
    .action(async (options) => {
      const { evaluate } = await import('../pipelines/evaluate.ts');
      const { renderSystems } = await import('./report.ts');
      const onProgress = progressReporter(err);
      const report = await evaluate(options, { onProgress, signal });
      onProgress.end();
      out.write(`${renderSystems(report.systems).join('\n')}\n`);
      const kept = report.retention?.['ndcg@10'];
      if (kept !== undefined) out.write(`keeps ${(100 * kept).toFixed(1)} % of the teacher's ndcg@10\n`);
    });

  cli
    .command('score')
    .description("score a split's candidates with the config's teacher and write them to a file")
    .argument('<file>', 'YAML file with the options')
    .option('--split <name>', 'judgements whose queries are scored', 'train')
    .option('--scores <file>', 'file written: query-id, corpus-id, score', 'teacher-scores.tsv')
    .option('--set <key=value>', 'override an option of the file; may be given again', collect, [])
    .addHelpText('after', '\nExample:\n  distill score distill.yaml --split train --scores teacher-scores-train.tsv')
    .action(async (file: string, options: { split: string; scores: string; set: string[] }) => {
      const { readConfig } = await import('../pipelines/config-file.ts');
      const { score } = await import('../pipelines/score.ts');
      const onProgress = progressReporter(err);
      const report = await score(readConfig(file, options.set), options.split, options.scores, { onProgress, signal });
      onProgress.end();
      out.write(`${report.pairs} pairs of ${report.queries} queries scored into ${report.file}\n`);
    });

  cli
    .command('check')
    .description(
      'say whether a model can be trained here: inputs, outputs, layers, operators without a rule, memory of a step',
    )
    .argument('<model>', 'model folder')
    .option('--json', 'print the findings as JSON')
    .addHelpText('after', '\nExample:\n  distill check models/minilm-l6')
    .action(async (folder: string, options: { json?: boolean }) => {
      const { checkModel } = await import('../students/check.ts');
      const { renderCheck } = await import('./report.ts');
      const found = await checkModel(folder);
      out.write(options.json ? `${JSON.stringify(found)}\n` : renderCheck(found));
    });

  cli
    .command('schema')
    .description('print the JSON schema of a config, for editors')
    .addHelpText('after', '\nExample:\n  distill schema > distill.schema.json')
    .action(async () => {
      const { z } = await import('zod');
      const { configSchema } = await import('../pipelines/config.ts');
      out.write(`${JSON.stringify(z.toJSONSchema(configSchema, { io: 'input' }), null, 2)}\n`);
    });

  return cli;
}

/** Runs the command. @returns its exit code: 0, 2 for a mistake in what was given, 3 for a fault, 130 when interrupted */
export async function main(argv: readonly string[], terminal: Terminal, signal: AbortSignal): Promise<number> {
  try {
    await program(terminal, signal).parseAsync([...argv], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (signal.aborted) {
      terminal.err.write('\nstopped; the same command goes on from here\n');
      return 130;
    }
    const verbose = argv.includes('--verbose');
    const known = error instanceof InputError;
    const { message, stack } = error instanceof Error ? error : { message: String(error), stack: undefined };
    terminal.err.write(
      `\nerror: ${message}\n${verbose && stack ? `${stack}\n` : known ? '' : 'this is a defect of onnx-distill; --verbose shows where\n'}`,
    );
    return known ? error.exitCode : 3;
  }
}
