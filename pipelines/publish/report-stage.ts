/** @file What the stages that measure a student share: their name, what they say, and how their report is kept. */
import { readFile } from 'node:fs/promises';
import { writeWhole } from '../../common/files.ts';
import type { Config } from '../../config/config.ts';
import type { Dataset } from '../../data/dataset.ts';
import { renderHtml } from '../../evaluation/report/html.ts';
import { figuresOf, type RunReport, type Training, type WrittenReport } from '../../evaluation/runs/run-report.ts';
import type { Saved } from '../../evaluation/runs/saved.ts';
import type { RunLog } from '../../run/stages/run-log.ts';
import type { Result, Tools } from '../../run/stages/stage.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';

/** What a run ends with: the folder of the student, and the figures. */
export interface Published {
  checkpoint: Result<Saved>;
  report: Result<RunReport>;
}

/** What every such stage reads. */
export interface Evaluating {
  trained: Training;
  saved: Saved;
  data: Dataset;
  teacher?: OpenedTeacher;
  /** All options, and the log of the run so far: both are written into the report. */
  config: Config;
  log: RunLog;
}

export const REPORT = 'report.json';
export const PAGE = 'report.html';

/** OUTPUT/report.json and a page. */
export const reportStage = <W extends WrittenReport>() => ({
  name: 'evaluation',
  unchanged: 'the figures of the earlier run stand',
  reused: 'nothing that the evaluation depends on has changed: its figures are those of the earlier run',
  keep: {
    alone: true,
    async save(written: W, _: unknown, { path }: Pick<Tools, 'path'>): Promise<string[]> {
      await writeWhole(path(REPORT), `${JSON.stringify(written, null, 1)}\n`);
      await writeWhole(path(PAGE), renderHtml(figuresOf(written)));
      return [REPORT, PAGE];
    },
    load: async (_: unknown, { path }: Pick<Tools, 'path'>): Promise<W> =>
      JSON.parse(await readFile(path(REPORT), 'utf8')),
  },
});
