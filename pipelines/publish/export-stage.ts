/** @file The compact files that a config asks for, exported from the saved checkpoint as `distill export` does. */
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { exportCheckpoint } from '../../checkpoints/export-checkpoint.ts';
import { writeWhole } from '../../common/files.ts';
import type { Dataset } from '../../data/dataset.ts';
import { type Exported, measureExport } from '../../evaluation/runs/measure-export.ts';
import type { Saved } from '../../evaluation/runs/saved.ts';
import { defineStage } from '../../run/stages/stage.ts';
import type { Embeddings } from '../../teachers/teacher.ts';

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
    return { report, ...(await measureExport(options, inputs, report, tools)) };
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
