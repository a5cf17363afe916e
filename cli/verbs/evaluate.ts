/** @file `distill evaluate`: a saved student compared with its teacher and other systems, and its cost. */
import { Command } from 'commander';
import type { EvaluateOptions } from '../../checkpoints/evaluation-report.ts';
import { InputError } from '../../common/errors.ts';
import { checkOutputs } from '../../common/outputs.ts';
import { progressReporter, type Screen } from '../terminal/progress.ts';
import { providerOption } from '../terminal/provider-option.ts';
import type { Verb } from '../terminal/verb.ts';

type Given = Omit<EvaluateOptions, 'columns'> & {
  cascade?: string;
  columns?: string;
  queryPrompt?: string;
  documentPrompt?: string;
  teacherQueryPrompt?: string;
  teacherDocumentPrompt?: string;
};

export const evaluate: Verb = ({ out, err, signal }) =>
  new Command('evaluate')
    .description('measure a saved student by exact search, compare it with its teacher and other systems, and time it')
    .option('--student <dir>', 'checkpoint of the student; with --cascade, its new path if it was moved')
    .option('--cascade <file>', 'measure a cascade of student and teacher: cascade.json')
    .option('--teacher <path>', 'cross-encoder that re-ranks candidates, dual-encoder, or file of scores')
    .option('--documents <dir>', 'dual-encoder whose document embeddings the student searches')
    .requiredOption('--data <path>', 'BEIR folder or file of rows')
    .option('--columns <names>', 'roles of the columns of rows, e.g. query=search_term,document=title')
    .option(
      '--query-prompt <text>',
      "the student's prompt of queries in place of its folder's; {text} is replaced by the text",
    )
    .option('--document-prompt <text>', "the student's prompt of documents")
    .option('--teacher-query-prompt <text>', 'prompt of queries of a teacher that is a dual-encoder')
    .option('--teacher-document-prompt <text>', 'its prompt of documents')
    .option('--split <name>', "split to evaluate on; its run's test split by default")
    .option('--metrics <names>', 'metrics separated by commas, e.g. ndcg@10,recall@100', (names) => names.split(','))
    .option('--candidates <source>', "candidates that the teacher re-ranks: 'student', 'bm25' or a run file", 'student')
    .option('--depth <n>', 'documents that the teacher re-ranks, per query', Number, 100)
    .option('--dtype <names>', 'model files that are evaluated, the first as the student: fp32, fp16, int8, q4, or all')
    .option('--baseline <run>', 'run file of another system to compare with')
    .option(
      '--index <kind>',
      "approximate index that is compared with exact search: 'usearch'; with --cascade, an index folder",
    )
    .option('--with <dir>', 'dense student whose scores are added to those of a sparse one, weighted on dev')
    .addOption(providerOption('where float32 models compute; times are of the CPU'))
    .option('--memory <size>', 'limit that batches are chosen by, e.g. 4GB')
    .option('--no-cost', 'do not time the models')
    .option('--seed <n>', 'random seed of the resampling', Number, 0)
    .option('--run <file>', "file for the student's TREC run")
    .option('--json <file>', 'file for the figures as JSON')
    .option('--html <file>', 'file for an HTML report')
    .addHelpText(
      'after',
      '\nExample:\n  distill evaluate --student runs/student/checkpoint --data data/debian --split test --json figures.json --html report.html\n  distill evaluate --cascade cascade.json --data data/debian --split test',
    )
    .action(
      async ({ cascade, queryPrompt, documentPrompt, teacherQueryPrompt, teacherDocumentPrompt, ...given }: Given) => {
        await checkOutputs(given.run, given.json, given.html);
        if (cascade !== undefined) {
          out.write(await measuredCascade({ ...given, columns: undefined, cascade }, err, signal));
          return;
        }
        if (given.student === undefined)
          throw new InputError({
            code: 'evaluate.student',
            subject: 'nothing to evaluate is given',
            expected: '--student or --cascade',
            remedy: 'give the folder of a checkpoint with --student, or cascade.json with --cascade',
          });
        const { parseColumns } = await import('../terminal/columns-option.ts');
        const options: EvaluateOptions = {
          ...given,
          columns: given.columns === undefined ? undefined : parseColumns(given.columns),
          prompts: { query: queryPrompt, document: documentPrompt },
          teacherPrompts: { query: teacherQueryPrompt, document: teacherDocumentPrompt },
        };
        const { evaluate } = await import('../../checkpoints/evaluate.ts');
        const { renderEvaluation } = await import('../terminal/figures.ts');
        const onProgress = progressReporter(err);
        const report = await evaluate(options, { onProgress, signal });
        onProgress.end();
        out.write(renderEvaluation(report));
      },
    );

async function measuredCascade(
  options: EvaluateOptions & { cascade: string },
  err: Screen,
  signal: AbortSignal,
): Promise<string> {
  const { evaluateCascadeFile } = await import('../../search/evaluate-cascade.ts');
  const { renderCascadeEvaluation } = await import('../terminal/cascade-report.ts');
  const onProgress = progressReporter(err);
  const report = await evaluateCascadeFile(options, { onProgress, signal });
  onProgress.end();
  return renderCascadeEvaluation(report);
}
