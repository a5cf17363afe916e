/** @file The compact files that a config asks for, exported from the saved checkpoint as `distill export` does. */
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { writeWhole } from '../../common/files.ts';
import type { Options } from '../../config/options.ts';
import type { Dataset } from '../../data/dataset.ts';
import { evaluateRun } from '../../evaluation/metrics/evaluate.ts';
import { reportedValues } from '../../evaluation/report/per-query.ts';
import { medianMilliseconds, TIMED_QUERIES } from '../../evaluation/systems/model-cost.ts';
import { encoderSearcher, retrieve } from '../../evaluation/systems/retrieve.ts';
import type { System } from '../../evaluation/systems/run-figures.ts';
import type { Saved } from '../../evaluation/systems/saved.ts';
import { openFileEncoder } from '../../serving/encoder/file-encoder.ts';
import type { Embeddings } from '../../teachers/teacher.ts';
import { defineStage, type Tools } from '../run/stage.ts';
import { type ExportReport, exportCheckpoint } from './export-checkpoint.ts';

/** The compact files and what was measured of them; OUTPUT/export.json holds it. */
export interface Exported {
  report: ExportReport;
  /** A row a file: means over the test split. */
  systems: System[];
  /** One value a query by system and metric, in the order of the report. */
  perQuery: Record<string, Record<string, number[]>>;
}

const RECORD = 'export.json';
const FOLDER = 'export';

/**
 * OUTPUT/export, measured on the test split as the student was.
 * @throws InputError from `make`, where a file loses more than the config allows and that is to be refused
 */
export const exportStage = defineStage({
  name: 'export',
  options: ['export'],
  unrecorded: [
    'data.path',
    'data.splits',
    'evaluate',
    'student.documentTokens',
    'student.queryTokens',
    'student.towers',
  ],
  unchanged: 'whole, and of this checkpoint',
  reused: 'nothing that the compact files depend on has changed: they are those of the earlier run',
  async make(options, inputs: Exporting, tools): Promise<Exported> {
    const { path, time, note, watch } = tools;
    const settings = options.export ?? {};
    const { path: data } = options.data;
    const report = await time('export', () =>
      exportCheckpoint(
        { checkpoint: inputs.saved.folder, output: path(FOLDER), data, ...settings },
        watch,
        inputs.data,
      ),
    );
    for (const warning of report.warnings) note(`warning: ${warning}`);
    for (const text of report.notes) note(text);
    return { report, ...(await measured(options, inputs, report, tools)) };
  },
  keep: {
    alone: true,
    async save(exported, _, { path }) {
      await writeWhole(path(RECORD), `${JSON.stringify(exported, null, 1)}\n`);
      const files = (await readdir(path(FOLDER), { recursive: true, withFileTypes: true }))
        .filter((e) => e.isFile())
        .map((e) => join(FOLDER, relative(path(FOLDER), e.parentPath), e.name));
      return [RECORD, ...files];
    },
    load: async (_, { path }) => JSON.parse(await readFile(path(RECORD), 'utf8')),
  },
});

interface Exporting {
  saved: Saved;
  data: Dataset;
  /** The embedder's vectors of all documents, where something reads them. */
  documents?: Embeddings;
  /** What the export's figures stand with. */
  report: unknown;
}

async function measured(
  config: Options<
    'data.splits' | 'evaluate' | 'export' | 'student.documentTokens' | 'student.queryTokens' | 'student.towers'
  >,
  { data: dataset, documents }: Exporting,
  made: ExportReport,
  { time, watch }: Tools,
): Promise<Pick<Exported, 'systems' | 'perQuery'>> {
  const { dimensions, vocabulary } = config.export ?? {};
  const { test } = config.data.splits;
  const searched = { dataset, split: test, depth: Math.max(100, config.evaluate.depth) };
  const frozen = config.student.towers === 'query' ? documents : undefined;
  const like = [dimensions && `${dimensions} dimensions`, vocabulary === 'corpus' && 'cut vocabulary'].filter(Boolean);
  const found: Pick<Exported, 'systems' | 'perQuery'> = { systems: [], perQuery: {} };
  for (const { dtype, file, bytes, exit } of made.files) {
    const encoder = await openFileEncoder(join(made.output, file));
    try {
      const searcher = encoderSearcher(encoder, config.student, frozen);
      const { run, vectors } = await time('evaluate export', () => retrieve(searcher, searched, watch));
      const maxLength = config.student.queryTokens;
      const queryMilliseconds = await medianMilliseconds(vectors.positions.slice(0, TIMED_QUERIES), (q) =>
        encoder.encode([dataset.queries.text(q)], { maxLength, role: 'query' }),
      );
      const { means, perQuery } = evaluateRun(run, dataset.qrels(test), config.evaluate.metrics);
      const name = [`student ${dtype}`, exit && `exit ${exit}`, ...like].filter(Boolean).join(', ');
      found.systems.push({ name, metrics: means, bytes, queryMilliseconds });
      found.perQuery[name] = reportedValues(perQuery);
    } finally {
      await encoder.dispose();
    }
  }
  return found;
}
