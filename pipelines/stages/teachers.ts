/** @file The teachers that a config names, behind the cache. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { hashParts } from '../../common/files.ts';
import type { Dataset } from '../../data/dataset.ts';
import { ScoreCache } from '../../teachers/cache.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';
import { scoreFile, scoreLists } from '../../teachers/score-file.ts';
import type { Teacher } from '../../teachers/teacher.ts';
import type { Config } from '../config.ts';

export interface Teachers {
  /** Scores pairs; absent where labels alone teach. */
  teacher: Teacher | undefined;
  embedder: Teacher | undefined;
  /** The same without the cache, to be timed. */
  uncached: { teacher: Teacher | undefined; embedder: Teacher | undefined };
  close(): Promise<void>;
}

export const defaultCache = (): string => join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'onnx-distill');

/** @throws InputError where a model or a file of scores cannot be opened */
export async function openTeachers(config: Config, dataset: Dataset): Promise<Teachers> {
  const cache = ScoreCache.open(config.cache ?? defaultCache());
  const opened: Teacher[] = [];
  const behind = new Map<Teacher | undefined, Teacher>();
  const keep = (t: Teacher): Teacher => {
    opened.push(t);
    const wrapped = cache.wrap(t, config.train.onNonFinite);
    behind.set(wrapped, t);
    return wrapped;
  };
  const session = { threads: config.train.threads };
  const { teacher: t, embedder: e } = config;
  let teacher: Teacher | undefined;
  if (t?.kind === 'cross-encoder')
    teacher = keep(
      await crossEncoder(t.model, {
        maxQuery: t.queryTokens,
        maxDocument: t.documentTokens,
        maxLength: t.maxLength,
        session,
      }),
    );
  if (t?.kind === 'dual-encoder')
    teacher = keep(
      await dualEncoder(t.model, { queryTokens: t.queryTokens, documentTokens: t.documentTokens, session }),
    );
  if (t?.kind === 'scores') {
    const files = Object.values(t.files).filter((f) => f !== undefined);
    const lists = files.length ? [] : dataset.splits.flatMap((s) => dataset.candidates?.(s) ?? []);
    teacher = files.length
      ? await scoreFile(files, dataset)
      : scoreLists(lists, dataset, hashParts('scores of rows', dataset.queries.hash, dataset.documents.hash), {
          name: 'the data',
        });
  }
  const same =
    t?.kind === 'dual-encoder' &&
    e &&
    t.model === e.model &&
    t.queryTokens === e.queryTokens &&
    t.documentTokens === e.documentTokens;
  const embedder =
    e &&
    (same
      ? teacher
      : keep(await dualEncoder(e.model, { queryTokens: e.queryTokens, documentTokens: e.documentTokens, session })));
  return {
    teacher,
    embedder,
    uncached: { teacher: behind.get(teacher), embedder: behind.get(embedder) },
    async close() {
      for (const t of opened) await t.dispose();
      await cache.close();
    },
  };
}
