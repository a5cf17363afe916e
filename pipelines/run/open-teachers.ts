/** @file The teachers that a config names, behind the cache. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { hashParts } from '../../common/files.ts';
import type { Dataset } from '../../data/dataset.ts';
import type { SessionOptions } from '../../engine/runtime/session.ts';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { crossEncoder, crossEncoderKey } from '../../teachers/cross-encoder.ts';
import { dualEncoder, dualEncoderKey } from '../../teachers/dual-encoder.ts';
import { scoreFile, scoreFileKey, scoreLists } from '../../teachers/score-file.ts';
import type { Teacher } from '../../teachers/teacher.ts';
import type { Config } from '../config/config.ts';
import { computeOn } from './provider.ts';

export interface Teachers {
  /** Scores pairs; absent where labels alone teach. */
  teacher: Teacher | undefined;
  embedder: Teacher | undefined;
  /** The same without the cache, to be timed. */
  uncached: { teacher: Teacher | undefined; embedder: Teacher | undefined };
  /** Scores and embeddings that the cache did not have, so far. */
  asked(): number;
  cache: ScoreCache;
  close(): Promise<void>;
}

export const defaultCache = (): string => join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'onnx-distill');

/** A teacher's model and how it cuts texts. */
export interface ModelTeacher extends Cut {
  kind: 'cross-encoder' | 'dual-encoder';
  model: string;
  maxLength?: number;
}

/** @throws InputError where the model cannot be opened */
export const openModel = (t: ModelTeacher, session: SessionOptions): Promise<Teacher> =>
  t.kind === 'cross-encoder'
    ? crossEncoder(t.model, { ...crossEncoderLimits(t), session })
    : dualEncoder(t.model, { ...dualEncoderLimits(t), session });

/** @throws InputError where a model or a file of scores cannot be opened */
export async function openTeachers(config: Config, dataset: Dataset): Promise<Teachers> {
  const cache = await ScoreCache.open(config.cache ?? defaultCache());
  const opened: Teacher[] = [];
  const behind = new Map<Teacher | undefined, Teacher>();
  const keep = (t: Teacher): Teacher => {
    opened.push(t);
    const wrapped = cache.wrap(t, config.train.onNonFinite);
    behind.set(wrapped, t);
    return wrapped;
  };
  const session = await computeOn(config);
  const { teacher: t, embedder: e } = config;
  let teacher: Teacher | undefined;
  if (t && t.kind !== 'scores') teacher = keep(await openModel(t, session));
  if (t?.kind === 'scores') {
    const files = filesOf(t);
    const lists = files.length ? [] : dataset.splits.flatMap((s) => dataset.candidates?.(s) ?? []);
    teacher = files.length
      ? await scoreFile(files, dataset)
      : scoreLists(lists, dataset, rowsKey(dataset), { name: 'the data' });
  }
  const same = t?.kind === 'dual-encoder' && e && isSame(t, e);
  const embedder = e && (same ? teacher : keep(await dualEncoder(e.model, { ...dualEncoderLimits(e), session })));
  return {
    teacher,
    embedder,
    uncached: { teacher: behind.get(teacher), embedder: behind.get(embedder) },
    asked: () => cache.asked,
    cache,
    async close() {
      for (const t of opened) await t.dispose();
      await cache.close();
    },
  };
}

/** The keys of the teachers that `openTeachers` opens, from their files alone. */
export async function teacherKeys(
  { teacher: t, embedder: e }: Config,
  dataset: Dataset,
): Promise<{ teacher?: string; embedder?: string }> {
  const teacher =
    t?.kind === 'cross-encoder'
      ? await crossEncoderKey(t.model, crossEncoderLimits(t))
      : t?.kind === 'dual-encoder'
        ? await dualEncoderKey(t.model, dualEncoderLimits(t))
        : t && (filesOf(t).length ? await scoreFileKey(filesOf(t)) : rowsKey(dataset));
  return { teacher, embedder: e && (await dualEncoderKey(e.model, dualEncoderLimits(e))) };
}

type TeacherOf<K> = Extract<NonNullable<Config['teacher']>, { kind: K }>;
type Cut = { queryTokens?: number; documentTokens?: number };

/** How a config has pairs cut. */
export const crossEncoderLimits = (t: Cut & { maxLength?: number }) => ({
  maxQuery: t.queryTokens,
  maxDocument: t.documentTokens,
  maxLength: t.maxLength,
});
const dualEncoderLimits = ({ queryTokens, documentTokens }: Cut): Cut => ({ queryTokens, documentTokens });
const filesOf = (t: TeacherOf<'scores'>): string[] => Object.values(t.files).filter((f) => f !== undefined);
const rowsKey = ({ queries, documents }: Dataset): string => hashParts('scores of rows', queries.hash, documents.hash);
const isSame = (a: Cut & { model: string }, b: Cut & { model: string }): boolean =>
  a.model === b.model && a.queryTokens === b.queryTokens && a.documentTokens === b.documentTokens;
