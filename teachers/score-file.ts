/** @file A file of given scores as teacher, for the pairs that it covers. */

import { statSync } from 'node:fs';
import { InputError } from '../common/errors.ts';
import { hashFile, hashParts } from '../common/files.ts';
import type { RunControl } from '../common/progress.ts';
import type { TextTable } from '../data/dataset.ts';
import { findFile } from '../data/files/lines.ts';
import type { CandidateLists } from '../data/lists.ts';
import { readScores } from '../data/scores.ts';
import { rowOf } from '../math/ragged.ts';
import type { Teacher } from './teacher.ts';

export interface ScoresOptions {
  name?: string;
  /** The result for a pair without a score: an error, or NaN with a note of their number. */
  onMissing?: 'stop' | 'skip';
}

/** Whose ids and positions scores use. */
export interface Tables {
  queries: TextTable;
  documents: TextTable;
}

/**
 * Whether a path names a file of scores and not a model; a missing path counts as a model, so that the error is about a model.
 */
export const isScoreFile = (path: string): boolean => {
  const found = findFile(path);
  return found !== undefined && !path.endsWith('.onnx') && statSync(found).isFile();
};

/**
 * Opens files of `query-id corpus-id score` lines.
 * @throws InputError that names file and line; when asked for a pair beyond the files, that names the pair
 */
export async function scoreFile(
  files: readonly string[],
  tables: Tables,
  options: ScoresOptions = {},
): Promise<Teacher> {
  const lists: CandidateLists[] = [];
  const notes: string[] = [];
  for (const file of files)
    lists.push(await readScores(file, tables.queries, tables.documents, (text) => notes.push(text)));
  const teacher = scoreLists(lists, tables, await scoreFileKey(files), { name: files.join(', '), ...options });
  return { ...teacher, notes };
}

/** The key of the teacher that `scoreFile` opens; a file that is not there counts as empty. */
export async function scoreFileKey(files: readonly string[]): Promise<string> {
  const hashes: string[] = [];
  for (const file of files) {
    const found = findFile(file);
    hashes.push(found ? await hashFile(found) : '');
  }
  return hashParts('scores', ...hashes);
}

/** As scoreFile, of lists in memory: scores that came with the data. @param key identifies their content */
export function scoreLists(
  lists: readonly CandidateLists[],
  tables: Tables,
  key: string,
  { name = 'the given scores', onMissing = 'stop' }: ScoresOptions = {},
): Teacher {
  const places = lists.map((list) => new Map(Array.from(list.queries, (q, i) => [q, i])));
  const find = (queryId: string, documentId: string): number => {
    const query = tables.queries.indexOf(queryId);
    const document = tables.documents.indexOf(documentId);
    if (query === undefined || document === undefined) return Number.NaN;
    for (const [l, { documents, offsets, scores }] of lists.entries()) {
      const i = places[l].get(query);
      if (i === undefined) continue;
      const at = rowOf(documents, offsets, i).indexOf(document);
      if (at >= 0 && !Number.isNaN(scores[offsets[i] + at])) return scores[offsets[i] + at];
    }
    return Number.NaN;
  };
  return {
    name,
    kind: 'scores',
    key,
    async score(pairs, watch: RunControl = {}) {
      watch.signal?.throwIfAborted();
      const scores = Float32Array.from(pairs, (p) => find(p.queryId, p.documentId));
      const missing = pairs.filter((_, i) => Number.isNaN(scores[i]));
      if (missing.length && onMissing === 'stop')
        throw new InputError({
          code: 'teacher.unknown-pair',
          subject: `${name} has no score of the query '${missing[0].queryId}' with the document '${missing[0].documentId}'${missing.length > 1 ? ` nor of ${missing.length - 1} other pairs` : ''}`,
          remedy: "add them, use 'candidates.source: given', or give a model as teacher",
        });
      const done = pairs.length - missing.length;
      const note = `${missing.length} of ${pairs.length} pairs have no score in ${name}`;
      watch.onProgress?.({ stage: 'score', done, total: pairs.length, unit: 'pairs', ...(missing.length && { note }) });
      return scores;
    },
    dispose: async () => {},
  };
}
