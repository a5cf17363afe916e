/** @file `distill index`: builds an index folder from the documents of a data set. */
import { Command } from 'commander';
import type { Tuned } from '../../../retrieval/tuned.ts';
import type { IndexSettings } from '../../../retrieval/vector-index.ts';
import { progressReporter } from '../../terminal/progress.ts';
import { providerOption } from '../../terminal/provider-option.ts';
import type { Verb } from '../../terminal/verb.ts';

export const indexVerb: Verb = ({ out, err, signal }) =>
  new Command('index')
    .description(
      "embed a data set's documents into an index folder; documents that the folder already has are not embedded again",
    )
    .argument('<checkpoint>', 'folder of the checkpoint, of a dense or a sparse student')
    .requiredOption('--data <path>', 'BEIR folder or file of rows')
    .requiredOption('--output <dir>', 'folder of the index, created or extended')
    .option(
      '--to <url>',
      'put vectors, term weights and documents into an engine: postgres://..., lancedb:PATH, qdrant://..., opensearch://...; --output then names it',
    )
    .option('--collection <name>', "the engine's table, collection or index; documents by default")
    .option(
      '--codec <name>',
      'codec of the scanned vectors: float32, float16, int8, int4, binary, pq48, pq32, pq16; int8 by default',
    )
    .option('--index <kind>', 'usearch: a graph of near vectors finds what the codec scores; needs npm install usearch')
    .option('--rescore <codec:count>', 'codec and number of the best documents that are scored again, e.g. int8:100')
    .option('--dimensions <n>', 'scan only the first dimensions; for models trained for prefixes', Number)
    .option(
      '--recall <share>',
      "search for the fastest settings that find this share of the nearest, e.g. 0.95; needs the data's queries",
      Number,
    )
    .option(
      '--ms <n>',
      'search for the settings of the best recall that answer a query within so many milliseconds',
      Number,
    )
    .option(
      '--dtype <name>',
      'model file that embeds: fp32, fp16, int8, q4, static-int8; of a sparse student fp32 or int8',
    )
    .addOption(providerOption('where documents are embedded; float32 files alone compute on a device'))
    .option(
      '--documents <dir>',
      "dual-encoder that embeds the documents, where the checkpoint's own record is out of date",
    )
    .option('--no-lexical', 'search by vectors alone, also where the checkpoint has a lexical channel')
    .option(
      '--tokens <n>',
      "of a checkpoint with a re-ranker: a document's first so many token vectors are stored",
      Number,
    )
    .option('--token-codec <name>', 'codec of token vectors: float32, float16, int8, int4; int8 by default')
    .option('--pool <n>', 'leave one of so many token vectors of a document by pooling near ones', Number)
    .option('--no-punctuation', 'leave out token vectors of punctuation')
    .option('--rerank <n>', 'documents that the re-ranker orders a query; 100 by default', Number)
    .option('--no-tokens', 'store no token vectors: search by the vectors of whole documents alone')
    .option('--json', 'print the counts as JSON')
    .addHelpText(
      'after',
      '\nExample:\n  distill index runs/student/checkpoint --data data/debian --output indexes/debian --codec binary --rescore int8:200\n  distill index runs/student/checkpoint --data data/debian --output indexes/debian --recall 0.95\n  PGPASSWORD=... distill index runs/student/checkpoint --data data/debian --output indexes/pg --to postgres://me@db.example/search',
    )
    .action(async (checkpoint: string, { json, ...options }) => {
      const { indexDocuments } = await import('../../../search/index-documents.ts');
      const onProgress = progressReporter(err);
      const report = await indexDocuments({ checkpoint, ...options }, { onProgress, signal });
      onProgress.end();
      const { documents, added, kept, bytes, hybrid, output, engine, tuned, tokens, postings } = report;
      const second = tokens
        ? `; token vectors ${(tokens.bytes / 1e6).toFixed(1)} MB (${tokens.codec}, ${Math.round(tokens.bytesADocument)} bytes a document), which re-rank ${tokens.depth}`
        : '';
      const impacts = postings ? `; ${postings.count} postings, ${(postings.bytes / 1e6).toFixed(1)} MB` : '';
      const where = engine ? `${engine}, named by ${output}` : output;
      out.write(
        json
          ? `${JSON.stringify(report)}\n`
          : `${documents} documents in ${where}: ${added} embedded, ${kept} already in the index${bytes === undefined ? '' : `; vectors ${(bytes / 1e6).toFixed(1)} MB`}${impacts}${second}${hybrid ? ', with BM25' : ''}\n${tuned ? renderTuned(tuned) : ''}`,
      );
    });

/** The settings that were found, and the recall and time along their way next to the defaults and to exact search. */
export function renderTuned({ settings, heldOut, defaults, curve, exactMs, k, tuning, documents }: Tuned): string {
  const rows = curve.some((p) => namesOf(p.settings) === namesOf(settings)) ? curve : [...curve, heldOut];
  const line = (name: string, recall: number, ms: number, note = ''): string =>
    `  ${name.padEnd(44)} ${recall.toFixed(4)} ${ms.toFixed(3).padStart(9)}${note}\n`;
  return [
    `settings found on ${tuning.queries} queries and ${documents} documents, measured on ${heldOut.queries} other queries, one at a time:\n`,
    `  ${'settings'.padEnd(44)} recall of ${k}, ms a query\n`,
    ...rows.map((p) =>
      line(namesOf(p.settings), p.recall, p.ms, namesOf(p.settings) === namesOf(settings) ? '  chosen' : ''),
    ),
    line(`${namesOf(defaults.settings)} (default)`, defaults.recall, defaults.ms),
    line('exact, float32', 1, exactMs),
  ].join('');
}

function namesOf({ codec, rescore, dimensions, cells, bins, graph }: IndexSettings): string {
  const parts = [
    dimensions === undefined ? codec : `${codec} of ${dimensions} dimensions`,
    cells && `${cells.probes} of ${cells.count} cells`,
    graph && `graph, ${graph.expansion} candidates`,
    rescore && `${rescore.count} re-scored in ${rescore.codec}`,
    bins && `${bins} bins`,
  ];
  return parts.filter(Boolean).join(', ');
}
