/** @file The teachers that a config names, behind the cache. */
import { canonicalJson, hashParts } from '../common/files.ts';
import type { Config } from '../config/config.ts';
import type { Options } from '../config/options.ts';
import type { Dataset } from '../data/dataset.ts';
import { computeOn } from '../engine/runtime/provider.ts';
import type { PromptOptions as EncoderPrompts } from '../models/modules/prompts.ts';
import { defaultCache, ScoreCache } from '../teachers/cache/score-cache.ts';
import { dualEncoderKey } from '../teachers/dual-encoder.ts';
import { dualEncoderLimits, modelKey, type OpenedTeacher, openModel } from '../teachers/open-model.ts';
import { scoreFile, scoreFileKey, scoreLists } from '../teachers/score-file.ts';
import { type HttpTeacherOptions, httpTeacher, httpTeacherKey } from '../teachers/services/http-teacher.ts';
import type { Teacher } from '../teachers/teacher.ts';
import { vectorsEmbedder, vectorsKey } from '../teachers/vectors/vectors-embedder.ts';

export type TeacherSpec = NonNullable<Config['teacher']>;
type EmbedderSpec = NonNullable<Config['embedder']>;
type ServiceSpec = Extract<TeacherSpec | EmbedderSpec, { kind: 'http' }>;

const serviceOptions = (t: ServiceSpec, task?: 'embed'): HttpTeacherOptions => ({
  ...t,
  task,
  timeout: t.timeout * 1000,
});
type Opening = Options<'train.onNonFinite' | 'train.provider' | 'train.threads'>;

/** @throws InputError where a model or a file of scores cannot be opened */
export async function openTeacher(
  spec: TeacherSpec,
  options: Opening,
  dataset: Dataset,
  cache: ScoreCache,
): Promise<OpenedTeacher & { teacher: Teacher; close(): Promise<void> }> {
  if (spec.kind !== 'scores') {
    const model =
      spec.kind === 'http' ? httpTeacher(serviceOptions(spec)) : await openModel(spec, await computeOn(options.train));
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

/** @throws InputError where a model or a file of vectors cannot be opened */
async function openEmbedder(spec: EmbedderSpec, options: Opening, dataset: Dataset, cache: ScoreCache) {
  if (spec.kind === 'vectors') {
    // Vectors answer by id, the cache by text.
    const teacher = await vectorsEmbedder(spec);
    return { key: teacher.key, teacher, uncached: undefined, given: true, close: () => teacher.dispose() };
  }
  if (spec.kind === 'http') {
    const model = httpTeacher(serviceOptions(spec, 'embed'));
    const teacher = cache.wrap(model, options.train.onNonFinite);
    return { key: model.key, teacher, uncached: model, close: () => model.dispose() };
  }
  return openTeacher({ ...spec, kind: 'dual-encoder' }, options, dataset, cache);
}

const embedderKey = (spec: EmbedderSpec): string | Promise<string> =>
  spec.kind === 'vectors'
    ? vectorsKey(spec)
    : spec.kind === 'http'
      ? httpTeacherKey(serviceOptions(spec, 'embed'))
      : dualEncoderKey(spec.model, dualEncoderLimits(spec));

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
  const same = t?.kind === 'dual-encoder' && e && e.kind !== 'http' && e.kind !== 'vectors' && isSame(t, e);
  const embedder = e && (same ? teacher : await openEmbedder(e, config, dataset, cache));
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
    embedder: e && { key: await embedderKey(e), given: e.kind === 'vectors' },
    cache,
    close: async () => cache?.close(),
  };
}

/** The key of the teacher that `openTeacher` opens, from its files alone. */
export async function teacherKey(spec: TeacherSpec, dataset: Dataset): Promise<string> {
  if (spec.kind === 'http') return httpTeacherKey(serviceOptions(spec));
  if (spec.kind !== 'scores') return modelKey(spec);
  return filesOf(spec).length ? scoreFileKey(filesOf(spec)) : rowsKey(dataset);
}

const filesOf = (t: Extract<TeacherSpec, { kind: 'scores' }>): string[] =>
  Object.values(t.files).filter((f) => f !== undefined);
const rowsKey = ({ queries, documents }: Dataset): string => hashParts('scores of rows', queries.hash, documents.hash);
type Named = { model: string; queryTokens?: number; documentTokens?: number; prompts?: EncoderPrompts; dtype?: string };
const isSame = (a: Named, b: Named): boolean =>
  canonicalJson(a.prompts ?? {}) === canonicalJson(b.prompts ?? {}) &&
  a.model === b.model &&
  (a.dtype ?? 'fp32') === (b.dtype ?? 'fp32') &&
  a.queryTokens === b.queryTokens &&
  a.documentTokens === b.documentTokens;
