/** @file The teachers that a config names, behind the cache. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { canonicalJson, hashParts } from '../../common/files.ts';
import type { Dataset } from '../../data/dataset.ts';
import type { SessionOptions } from '../../engine/runtime/session.ts';
import type { PromptOptions } from '../../models/modules/prompts.ts';
import { ScoreCache } from '../../teachers/cache/score-cache.ts';
import { crossEncoder, crossEncoderKey } from '../../teachers/cross-encoder.ts';
import { dualEncoder, dualEncoderKey } from '../../teachers/dual-encoder.ts';
import { scoreFile, scoreFileKey, scoreLists } from '../../teachers/score-file.ts';
import type { Teacher } from '../../teachers/teacher.ts';
import type { Config } from '../config/config.ts';
import type { Options } from './options.ts';
import { computeOn } from './provider.ts';

export const defaultCache = (): string => join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'onnx-distill');

/** A teacher's model and how it cuts texts. */
export interface ModelTeacher extends Cut {
  kind: 'cross-encoder' | 'dual-encoder';
  model: string;
  maxLength?: number;
  prompts?: PromptOptions;
}

/** @throws InputError where the model cannot be opened */
export const openModel = (t: ModelTeacher, session: SessionOptions): Promise<Teacher> =>
  t.kind === 'cross-encoder'
    ? crossEncoder(t.model, { ...crossEncoderLimits(t), session })
    : dualEncoder(t.model, { ...dualEncoderLimits(t), session });

/** A teacher of a run; in a dry run its key alone is known. */
export interface OpenedTeacher {
  key: string;
  teacher?: Teacher;
  /** Without the cache, to be timed. */
  uncached?: Teacher;
}

export type TeacherSpec = NonNullable<Config['teacher']>;
type Opening = Options<'train.onNonFinite' | 'train.provider' | 'train.threads'>;

/** @throws InputError where a model or a file of scores cannot be opened */
export async function openTeacher(
  spec: TeacherSpec,
  options: Opening,
  dataset: Dataset,
  cache: ScoreCache,
): Promise<OpenedTeacher & { teacher: Teacher; close(): Promise<void> }> {
  if (spec.kind !== 'scores') {
    const model = await openModel(spec, await computeOn(options));
    const teacher = cache.wrap(model, options.train.onNonFinite);
    return { key: model.key, teacher, uncached: model, close: () => model.dispose() };
  }
  const files = filesOf(spec);
  const lists = files.length ? [] : dataset.splits.flatMap((s) => dataset.candidates?.(s) ?? []);
  const teacher = files.length
    ? await scoreFile(files, dataset)
    : scoreLists(lists, dataset, rowsKey(dataset), { name: 'the data' });
  return { key: teacher.key, teacher, close: async () => {} };
}

export interface Teachers {
  /** Scores pairs; absent where labels alone teach. */
  teacher: OpenedTeacher | undefined;
  embedder: OpenedTeacher | undefined;
  close(): Promise<void>;
}

/** @throws InputError where a model or a file of scores cannot be opened */
export async function openTeachers(
  config: Options<'teacher' | 'embedder' | 'cache'> & Opening,
  dataset: Dataset,
): Promise<Teachers & { cache: ScoreCache }> {
  const cache = await ScoreCache.open(config.cache ?? defaultCache());
  const { teacher: t, embedder: e } = config;
  const teacher = t && (await openTeacher(t, config, dataset, cache));
  const same = t?.kind === 'dual-encoder' && e && isSame(t, e);
  const embedder = e && (same ? teacher : await openTeacher({ kind: 'dual-encoder', ...e }, config, dataset, cache));
  return {
    teacher,
    embedder,
    cache,
    async close() {
      for (const t of new Set([teacher, embedder])) await t?.close();
      await cache.close();
    },
  };
}

/** The keys of the teachers that `openTeachers` opens, from their files alone, and the cache if it is there. */
export async function knownTeachers(
  { teacher: t, embedder: e, cache: folder }: Options<'teacher' | 'embedder' | 'cache'>,
  dataset: Dataset,
): Promise<Teachers & { cache: ScoreCache | undefined }> {
  const cache = await ScoreCache.openIfThere(folder ?? defaultCache());
  return {
    teacher: t && { key: await teacherKey(t, dataset) },
    embedder: e && { key: await dualEncoderKey(e.model, dualEncoderLimits(e)) },
    cache,
    close: async () => cache?.close(),
  };
}

/** The key of the teacher that `openTeacher` opens, from its files alone. */
export async function teacherKey(spec: TeacherSpec, dataset: Dataset): Promise<string> {
  if (spec.kind === 'cross-encoder') return crossEncoderKey(spec.model, crossEncoderLimits(spec));
  if (spec.kind === 'dual-encoder') return dualEncoderKey(spec.model, dualEncoderLimits(spec));
  return filesOf(spec).length ? scoreFileKey(filesOf(spec)) : rowsKey(dataset);
}

type Cut = { queryTokens?: number; documentTokens?: number };

/** How a config has pairs cut. */
export const crossEncoderLimits = (t: Cut & { maxLength?: number }) => ({
  maxQuery: t.queryTokens,
  maxDocument: t.documentTokens,
  maxLength: t.maxLength,
});
const dualEncoderLimits = ({ queryTokens, documentTokens, prompts }: Cut & { prompts?: PromptOptions }) => ({
  queryTokens,
  documentTokens,
  prompts,
});
const filesOf = (t: Extract<TeacherSpec, { kind: 'scores' }>): string[] =>
  Object.values(t.files).filter((f) => f !== undefined);
const rowsKey = ({ queries, documents }: Dataset): string => hashParts('scores of rows', queries.hash, documents.hash);
type Named = Cut & { model: string; prompts?: PromptOptions };
const isSame = (a: Named, b: Named): boolean =>
  canonicalJson(a.prompts ?? {}) === canonicalJson(b.prompts ?? {}) &&
  a.model === b.model &&
  a.queryTokens === b.queryTokens &&
  a.documentTokens === b.documentTokens;
