/** @file The systems that a student is compared with: a teacher (a model or a file of scores), candidates, other runs. */
import { existsSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { InputError } from '../../common/errors.ts';
import type { RunControl } from '../../common/progress.ts';
import type { Dataset } from '../../data/dataset.ts';
import { findFile } from '../../data/files/lines.ts';
import type { CandidateLists } from '../../data/lists.ts';
import { readScores } from '../../data/scores.ts';
import { Column } from '../../data/table/columns.ts';
import type { SessionOptions } from '../../engine/runtime/session.ts';
import { rowOf } from '../../math/ragged.ts';
import type { PromptOptions } from '../../models/modules/prompts.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';
import type { Teacher } from '../../teachers/teacher.ts';
import { bm25Run } from '../bm25-run.ts';
import { cutRun, type Run } from '../metrics/evaluate.ts';
import { readRun } from '../metrics/run-file.ts';
import { lazyRun } from '../metrics/run-on-demand.ts';

/** Whether a teacher is given as a file of scores. */
export const isScoreFile = (path: string): boolean => {
  const file = findFile(path);
  return file !== undefined && statSync(file).isFile();
};

/**
 * Opens a folder as a cross-encoder or dual-encoder, whichever it is.
 * @throws InputError where it is neither
 */
export async function openTeacher(
  folder: string,
  {
    prompts,
    ...limits
  }: { queryTokens?: number; documentTokens?: number; prompts?: PromptOptions; session?: SessionOptions },
): Promise<Teacher> {
  try {
    const teacher = await crossEncoder(folder, {
      maxQuery: limits.queryTokens,
      maxDocument: limits.documentTokens,
      session: limits.session,
    });
    if (prompts?.query === undefined && prompts?.document === undefined) return teacher;
    await teacher.dispose();
    throw new InputError({
      code: 'evaluate.prompts',
      subject: `prompts of the teacher are given and ${folder} is a cross-encoder, which encodes query and document together`,
      remedy: 'leave out --teacher-query-prompt and --teacher-document-prompt',
    });
  } catch (error) {
    if (!(error instanceof InputError) || error.code !== 'teacher.no-logits') throw error;
    return dualEncoder(folder, { ...limits, prompts });
  }
}

/** Lists of a file as a run. @param onNote told of queries that the data does not have */
export const scoresAsRun = async (path: string, dataset: Dataset, onNote?: (text: string) => void): Promise<Run> =>
  listsAsRun(await readScores(path, dataset.queries, dataset.documents, onNote), dataset);

/** Candidates with their scores as a run. */
export const listsAsRun = (lists: CandidateLists, dataset: Dataset): Run =>
  lazyRun(dataset.queries, lists.queries, (i) => ({
    ids: Array.from(rowOf(lists.documents, lists.offsets, i), (d) => dataset.documents.ids[d]),
    scores: rowOf(lists.scores, lists.offsets, i),
  }));

/**
 * Candidates by the name of their source: `bm25`, or a run file.
 * @throws InputError where it is neither
 */
export async function candidateRun(
  source: string,
  dataset: Dataset,
  split: string,
  depth: number,
  watch: RunControl,
): Promise<{ name: string; run: Run }> {
  if (source === 'bm25') return { name: 'BM25', run: await bm25Run(dataset, split, depth, watch) };
  if (!existsSync(source) && !findFile(source))
    throw new InputError({
      code: 'evaluate.candidates',
      subject: `there are no candidates called ${source}`,
      expected: "'student', 'bm25' or a run file",
      remedy: 'name one of these under --candidates',
    });
  return { name: basename(source), run: known(source, cutRun(await readRun(source), depth), dataset, watch) };
}

/** Removes documents and queries that are not in the data, since their texts are unknown, and says how many. */
function known(file: string, run: Run, dataset: Dataset, watch: RunControl): Run {
  const asked = new Column(Int32Array);
  let queries = 0;
  let documents = 0;
  for (const query of run.keys()) {
    const position = dataset.queries.indexOf(query);
    if (position === undefined) {
      queries++;
      continue;
    }
    asked.push(position);
    for (const id of run.get(query)?.ids ?? []) documents += Number(dataset.documents.indexOf(id) === undefined);
  }
  if (queries || documents)
    watch.onProgress?.({
      stage: 'candidates',
      done: 0,
      unit: 'queries',
      note: `${file}: ${queries} queries and ${documents} documents of the others are not in the data and are left out`,
    });
  const positions = asked.all;
  return lazyRun(dataset.queries, positions, (place) => {
    const { ids = [], scores = [] } = run.get(dataset.queries.ids[positions[place]]) ?? {};
    const at = ids.flatMap((id, i) => (dataset.documents.indexOf(id) === undefined ? [] : [i]));
    return { ids: at.map((i) => ids[i]), scores: Float32Array.from(at, (i) => scores[i]) };
  });
}
