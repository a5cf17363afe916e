/** @file Scores pairs with a teacher, through the cache, into a file that a run can be given. */
import { findCandidates } from '../../candidates/find-candidates.ts';
import { InputError, shown } from '../../common/errors.ts';
import { writeWhole } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Config, ConfigInput } from '../../config/config.ts';
import { withMemory } from '../../config/memory.ts';
import { parseConfig } from '../../config/parse.ts';
import type { Dataset } from '../../data/dataset.ts';
import { type CandidateLists, withoutUnscored } from '../../data/lists.ts';
import { askedQueries } from '../../run/data.ts';
import { openSplit } from '../../run/open-data.ts';
import { openTeachers } from '../../run/open-teachers.ts';
import { distribute } from '../queue/distribute.ts';
import { pairsOf, scoreCandidates } from '../score-pairs.ts';
import type { Teacher } from '../teacher.ts';
import { queuedModel, throughQueue } from './through-queue.ts';

/** How many pairs were scored and how many were known. */
export interface ScoreReport {
  file: string;
  pairs: number;
  queries: number;
  /** Pairs that came back through the queue, where there is one; the others were in the cache. */
  fromQueue?: number;
}

/** Whose pairs are scored, by whom, and where scores go. */
export interface ScoreOptions {
  /** Address of a queue whose workers score, e.g. `redis://host:6379`; this process scores by default. */
  queue?: string;
  /** Pairs of a range in the queue. */
  range?: number;
}

/**
 * Finds a split's candidates, asks the teacher about each and writes `query-id corpus-id score` lines.
 * @throws InputError for a mistake in the options
 */
export async function score(
  options: ConfigInput,
  split: string,
  file: string,
  watch: RunControl = {},
  { queue, range }: ScoreOptions = {},
): Promise<ScoreReport> {
  const config: Config = parseConfig(options);
  const spec = queue === undefined ? undefined : queuedModel(config.teacher, 'teacher');
  const dataset = await openSplit(config, split, watch);
  const note = (text: string): void => watch.onProgress?.({ stage: 'score', done: 0, unit: 'pairs', note: text });
  const limited = await withMemory(config, dataset, watch, note);
  const opened = await openTeachers(config, dataset);
  const { teacher, embedder, close } = opened;
  try {
    const queries = askedQueries(config, dataset, split);
    const found = await findCandidates(config, dataset, split, queries, embedder?.teacher, limited);
    const { onNonFinite } = config.train;
    const came =
      queue !== undefined && spec
        ? await throughQueue(
            queue,
            spec,
            { model: teacher?.uncached as Teacher, cache: opened.cache, onNote: note },
            (asked) => distribute(pairsOf(found, dataset), { ...asked, onNonFinite, range }, limited),
          )
        : undefined;
    const fromQueue = came?.pairs;
    // With a queue, all scores are in the cache now.
    const { lists } = withoutUnscored(await scoreCandidates(found, dataset, teacher?.teacher, limited));
    refuseUnwritable(dataset, lists);
    const lines = ['query-id\tcorpus-id\tscore'];
    for (let i = 0; i < lists.queries.length; i++)
      for (let at = lists.offsets[i]; at < lists.offsets[i + 1]; at++)
        lines.push(
          `${dataset.queries.ids[lists.queries[i]]}\t${dataset.documents.ids[lists.documents[at]]}\t${lists.scores[at]}`,
        );
    await writeWhole(file, `${lines.join('\n')}\n`);
    return { file, pairs: lists.documents.length, queries: lists.queries.length, fromQueue };
  } finally {
    await close();
  }
}

/** @throws InputError for an id that a line of tab-separated columns cannot hold */
function refuseUnwritable(dataset: Dataset, { queries, documents }: CandidateLists): void {
  for (const [table, positions, what] of [
    [dataset.queries, queries, 'query'],
    [dataset.documents, documents, 'document'],
  ] as const)
    for (const i of positions)
      if (/[\t\r\n]/.test(table.ids[i]))
        throw new InputError({
          code: 'score.id',
          subject: `the id '${shown(table.ids[i])}' of a ${what} holds a tab or line end, and scores are written as tab-separated lines`,
          remedy: 'rename it in the data',
        });
}
