/** @file Scores kept in files as teacher: it answers for the pairs that the files hold. */
import { InputError } from '../common/errors.ts';
import { hashFile, hashParts } from '../common/files.ts';
import type { Watch } from '../common/progress.ts';
import type { TextTable } from '../data/dataset.ts';
import { findFile } from '../data/lines.ts';
import { type CandidateLists, readScores } from '../data/scores.ts';
import type { Teacher } from './teacher.ts';

export interface ScoreFileOptions {
  name?: string;
  /** What a pair that no file holds gives: an error, or NaN with a note that counts them. */
  onMissing?: 'stop' | 'skip';
}

/**
 * Opens files of `query-id corpus-id score` lines.
 * @param tables whose ids the files use
 * @throws InputError that names file and line; when asked for a pair beyond the files, that names the pair
 */
export async function scoreFile(
  files: readonly string[],
  tables: { queries: TextTable; documents: TextTable },
  options: ScoreFileOptions = {},
): Promise<Teacher> {
  const { name = files.join(', '), onMissing = 'stop' } = options;
  const lists: { list: CandidateLists; places: Map<number, number> }[] = [];
  const hashes: string[] = [];
  for (const file of files) {
    const list = await readScores(file, tables.queries, tables.documents);
    lists.push({ list, places: new Map(Array.from(list.queries, (q, i) => [q, i])) });
    hashes.push(await hashFile(findFile(file) as string));
  }
  const find = (queryId: string, documentId: string): number => {
    const query = tables.queries.indexOf(queryId);
    const document = tables.documents.indexOf(documentId);
    if (query === undefined || document === undefined) return Number.NaN;
    for (const { list, places } of lists) {
      const i = places.get(query);
      if (i === undefined) continue;
      const at = list.documents.subarray(list.offsets[i], list.offsets[i + 1]).indexOf(document);
      if (at >= 0) return list.scores[list.offsets[i] + at];
    }
    return Number.NaN;
  };
  return {
    name,
    kind: 'scores',
    key: hashParts('scores', ...hashes),
    async score(pairs, watch: Watch = {}) {
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
