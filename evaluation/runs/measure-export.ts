/** @file Measures the compact files of a checkpoint on the test split, as the student was. */
import { join } from 'node:path';
import type { ExportReport } from '../../checkpoints/export-checkpoint.ts';
import type { Reporting } from '../../common/progress.ts';
import type { Options } from '../../config/options.ts';
import type { Dataset } from '../../data/dataset.ts';
import { openFileEncoder } from '../../serving/encoder/file-encoder.ts';
import type { Embeddings } from '../../teachers/teacher.ts';
import { evaluateRun } from '../metrics/evaluate.ts';
import { reportedValues } from '../report/per-query.ts';
import { medianMilliseconds, TIMED_QUERIES } from '../systems/model-cost.ts';
import { encoderSearcher, retrieve } from '../systems/retrieve.ts';
import type { System } from './run-figures.ts';

/** The compact files and what was measured of them; OUTPUT/export.json holds it. */
export interface Exported {
  report: ExportReport;
  /** A row a file: means over the test split. */
  systems: System[];
  /** One value a query by system and metric, in the order of the report. */
  perQuery: Record<string, Record<string, number[]>>;
}

/** Searches with each file as with the checkpoint. @param documents the embedder's vectors of all documents, where something reads them */
export async function measureExport(
  config: Options<
    'data.splits' | 'evaluate' | 'export' | 'student.documentTokens' | 'student.queryTokens' | 'student.towers'
  >,
  { data: dataset, documents }: { data: Dataset; documents?: Embeddings },
  made: ExportReport,
  { time, watch }: Reporting,
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
