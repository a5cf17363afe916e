/** @file Evaluates a saved student, beside its teacher where one is given. */
import { join } from 'node:path';
import { writeWhole } from '../common/files.ts';
import type { Watch } from '../common/progress.ts';
import { openDataset } from '../data/open.ts';
import type { Run } from '../evaluation/evaluate.ts';
import { Encoder } from '../students/encoder.ts';
import { readJson } from '../students/folder.ts';
import { ScoreCache } from '../teachers/cache.ts';
import { crossEncoder } from '../teachers/cross-encoder.ts';
import { dualEncoder } from '../teachers/dual-encoder.ts';
import { means, rerank, searchSplit, toRun } from './stages/evaluate.ts';
import { defaultCache } from './stages/teachers.ts';

export interface EvaluateOptions {
  student: string;
  /** A cross-encoder that re-ranks the student's candidates. */
  teacher?: string;
  /** A dual-encoder whose document embeddings the student searches; the student encodes them itself by default. */
  documents?: string;
  data: string;
  split?: string;
  metrics?: readonly string[];
  /** Documents a query that the teacher re-ranks. */
  depth?: number;
  queryTokens?: number;
  documentTokens?: number;
  cache?: string;
  /** Files written: the student's TREC run, the figures. */
  run?: string;
  json?: string;
}

export interface EvaluateReport {
  split: string;
  queries: number;
  systems: { name: string; metrics: Record<string, number> }[];
  /** Student over teacher, a metric. */
  retention?: Record<string, number>;
}

/** How long texts were in the run that made a checkpoint, as its distill.json says. */
interface Made {
  config?: {
    data?: { holdOut?: number; splitSeed?: number };
    student?: { queryTokens?: number; documentTokens?: number; towers?: string };
    embedder?: { model?: string; documentTokens?: number };
  };
}

/** @throws InputError where a model or the data cannot be read */
export async function evaluate(options: EvaluateOptions, watch: Watch = {}): Promise<EvaluateReport> {
  const { split = 'test', metrics = ['ndcg@10', 'mrr@10', 'recall@100'], depth = 100 } = options;
  const made = (await readJson(join(options.student, 'distill.json'))) as Made;
  const dataset = await openDataset(options.data, made.config?.data);
  const queryTokens = options.queryTokens ?? made.config?.student?.queryTokens ?? 64;
  const documentTokens = options.documentTokens ?? made.config?.student?.documentTokens ?? 192;
  const inherited =
    options.documents ?? (made.config?.student?.towers === 'query' ? made.config.embedder?.model : undefined);
  const cache = ScoreCache.open(options.cache ?? defaultCache());
  const encoder = await Encoder.load(options.student);
  try {
    let frozen: Float32Array | undefined;
    if (inherited) {
      const documents = await dualEncoder(inherited, {
        documentTokens: made.config?.embedder?.documentTokens ?? documentTokens,
        queryTokens,
      });
      frozen = (await cache.wrap(documents).embed?.(dataset.documents, 'document', watch))?.data;
      await documents.dispose();
    }
    const setup = { encoder, queryTokens, documentTokens, frozen, depth: Math.max(100, depth) };
    const { queries, hits } = await searchSplit(dataset, split, setup, watch);
    const run = toRun(dataset, queries, hits);
    const systems = [{ name: 'student', metrics: means(run, dataset, split, metrics) }];
    if (options.teacher) {
      const teacher = await crossEncoder(options.teacher);
      const top: Run = new Map(
        [...run].map(([q, r]) => [q, { ids: r.ids.slice(0, depth), scores: Array.from(r.scores).slice(0, depth) }]),
      );
      systems.push({
        name: `teacher, re-ranking the student's ${depth}`,
        metrics: means(await rerank(dataset, top, cache.wrap(teacher), watch), dataset, split, metrics),
      });
      await teacher.dispose();
    }
    const retention =
      systems[1] && Object.fromEntries(metrics.map((m) => [m, systems[0].metrics[m] / systems[1].metrics[m]]));
    const report: EvaluateReport = { split, queries: queries.length, systems, retention };
    if (options.run) await writeWhole(options.run, trec(run));
    if (options.json)
      await writeWhole(options.json, `${JSON.stringify({ ...systems[0].metrics, ...report }, null, 1)}\n`);
    return report;
  } finally {
    await encoder.dispose();
    await cache.close();
  }
}

/** TREC's run format. */
function trec(run: Run): string {
  const lines: string[] = [];
  for (const [q, { ids, scores }] of run)
    for (const [i, id] of ids.entries()) lines.push(`${q} Q0 ${id} ${i + 1} ${scores[i]} onnx-distill`);
  return `${lines.join('\n')}\n`;
}
