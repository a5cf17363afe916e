/** @file Scores pairs with a teacher, through the cache, into a file that a run can be given. */
import { writeWhole } from '../common/files.ts';
import type { Watch } from '../common/progress.ts';
import { openDataset } from '../data/open.ts';
import { type Config, type ConfigInput, parseConfig } from './config.ts';
import { findCandidates, scoreCandidates, withoutUnscored } from './stages/candidates.ts';
import { withMemory } from './stages/memory.ts';
import { openTeachers } from './stages/teachers.ts';

export interface ScoreReport {
  file: string;
  pairs: number;
  queries: number;
}

/**
 * Finds a split's candidates, asks the teacher about each and writes `query-id corpus-id score` lines.
 * @throws InputError for a mistake in the options
 */
export async function score(
  options: ConfigInput,
  split: string,
  file: string,
  watch: Watch = {},
): Promise<ScoreReport> {
  const config: Config = parseConfig(options);
  const dataset = await openDataset(config.data.path as string, config.data);
  const note = (text: string): void => watch.onProgress?.({ stage: 'score', done: 0, unit: 'pairs', note: text });
  const limited = await withMemory(config, dataset, watch, note);
  const { teacher, embedder, close } = await openTeachers(config, dataset);
  try {
    const queries = [...dataset.qrels(split).keys()].map((id) => dataset.queries.indexOf(id) as number);
    const found = await findCandidates(
      config,
      dataset,
      split,
      queries.slice(0, config.data.maxQueries),
      embedder,
      limited,
    );
    const { lists } = withoutUnscored(await scoreCandidates(found, dataset, teacher, limited));
    const lines = ['query-id\tcorpus-id\tscore'];
    for (let i = 0; i < lists.queries.length; i++)
      for (let at = lists.offsets[i]; at < lists.offsets[i + 1]; at++)
        lines.push(
          `${dataset.queries.ids[lists.queries[i]]}\t${dataset.documents.ids[lists.documents[at]]}\t${lists.scores[at]}`,
        );
    await writeWhole(file, `${lines.join('\n')}\n`);
    return { file, pairs: lists.documents.length, queries: lists.queries.length };
  } finally {
    await close();
  }
}
