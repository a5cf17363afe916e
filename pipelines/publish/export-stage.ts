/** @file The compact files that a config asks for, made of the saved checkpoint as `distill export` makes them. */
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { writeWhole } from '../../common/files.ts';
import { evaluateRun } from '../../evaluation/metrics/evaluate.ts';
import type { Config } from '../config/config.ts';
import { openFileEncoder } from '../measure/file-encoder.ts';
import { medianMilliseconds, TIMED_QUERIES } from '../measure/model-cost.ts';
import { encoderSearcher, retrieve } from '../measure/retrieve.ts';
import { rounded, type System } from '../measure/run-figures.ts';
import type { Targets } from '../prepare/embeddings.ts';
import type { Job } from '../run/context.ts';
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

/**
 * Writes OUTPUT/export and measures it on the test split as the student was, unless it stands there whole and nothing that it
 * depends on has changed.
 * @throws InputError where a file loses more than the config allows and that is to be refused
 */
export async function exportStudent(job: Job, targets: Targets): Promise<Exported | undefined> {
  const { config, watch, dataset } = job;
  const settings = config.export;
  if (!settings) return undefined;
  const why = await job.ledger.why('export', job.keys.export);
  job.did('export', why !== undefined);
  if (why === undefined) {
    job.note('nothing that the compact files depend on has changed: they are those of the earlier run');
    return JSON.parse(await readFile(job.path(RECORD), 'utf8'));
  }
  const output = job.path('export');
  const report = await job.stage('export', () =>
    exportCheckpoint(
      { checkpoint: job.path('checkpoint'), output, data: config.data.path, ...settings },
      watch,
      dataset,
    ),
  );
  for (const warning of report.warnings) job.note(`warning: ${warning}`);
  const exported: Exported = { report, ...(await measured(job, settings, report, targets)) };
  await writeWhole(job.path(RECORD), `${JSON.stringify(exported, null, 1)}\n`);
  const files = (await readdir(output, { recursive: true, withFileTypes: true }))
    .filter((e) => e.isFile())
    .map((e) => join('export', relative(output, e.parentPath), e.name));
  await job.ledger.record('export', job.keys.export, [RECORD, ...files]);
  return exported;
}

async function measured(
  job: Job,
  { dimensions, vocabulary }: NonNullable<Config['export']>,
  made: ExportReport,
  targets: Targets,
): Promise<Pick<Exported, 'systems' | 'perQuery'>> {
  const { config, dataset, watch } = job;
  const { test } = config.data.splits;
  const searched = { dataset, split: test, depth: Math.max(100, config.evaluate.depth) };
  const frozen = job.frozenDocuments ? targets.documents : undefined;
  const like = [dimensions && `${dimensions} dimensions`, vocabulary === 'corpus' && 'cut vocabulary'].filter(Boolean);
  const found: Pick<Exported, 'systems' | 'perQuery'> = { systems: [], perQuery: {} };
  for (const { dtype, file, bytes } of made.files) {
    const encoder = await openFileEncoder(join(made.output, file));
    try {
      const searcher = encoderSearcher(encoder, config.student, frozen);
      const { run, vectors } = await job.stage('evaluate export', () => retrieve(searcher, searched, watch));
      const maxLength = config.student.queryTokens;
      const queryMilliseconds = await medianMilliseconds(vectors.positions.slice(0, TIMED_QUERIES), (q) =>
        encoder.encode([dataset.queries.text(q)], { maxLength }),
      );
      const { means, perQuery } = evaluateRun(run, dataset.qrels(test), config.evaluate.metrics);
      const name = [`student ${dtype}`, ...like].join(', ');
      found.systems.push({ name, metrics: means, bytes, queryMilliseconds });
      found.perQuery[name] = rounded(perQuery);
    } finally {
      await encoder.dispose();
    }
  }
  return found;
}
