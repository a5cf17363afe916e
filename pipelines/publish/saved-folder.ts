/** @file What the stages that write a checkpoint share: what a folder says of its making, and how it is kept between runs. */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { canonicalJson, hashParts, writeWhole } from '../../common/files.ts';
import type { Config } from '../../config/config.ts';
import { withAbsolutePaths } from '../../config/paths.ts';
import type { Dataset } from '../../data/dataset.ts';
import type { Saved } from '../../evaluation/runs/saved.ts';
import type { Tools } from '../../run/stages/stage.ts';
import type { OpenedTeacher } from '../../teachers/open-model.ts';
import type { Trained } from '../fit/parts/fit.ts';

/** In the run's folder. */
export const FOLDER = 'checkpoint';
const SIZE = join('stages', 'checkpoint.json');

/** What made a checkpoint, for its distill.json. */
export const madeBy = (
  config: Config,
  data: Dataset,
  trained: Trained,
  model: Uint8Array,
  { teacher, embedder }: { teacher?: OpenedTeacher; embedder?: OpenedTeacher },
) => ({
  pipeline: config.pipeline,
  seed: config.seed,
  config: withAbsolutePaths(config),
  options: hashParts(canonicalJson({ ...config, output: '' })),
  data: { documents: data.documents.hash, queries: data.queries.hash },
  teacher: teacher?.key,
  embedder: embedder?.key,
  model: createHash('sha256').update(model).digest('hex'),
  training: { steps: trained.steps, bestStep: trained.bestStep, bestScore: trained.bestScore },
});

/** Keeps the files of the folder, but for those that later stages write again. */
export const keepFolder = (rewritten: readonly string[] = []) => ({
  alone: true,
  async save({ bytes, parameters }: Saved, _: unknown, { path }: Pick<Tools, 'path'>): Promise<string[]> {
    await writeWhole(path(SIZE), canonicalJson({ bytes, parameters }));
    const folder = path(FOLDER);
    const files = (await readdir(folder, { recursive: true, withFileTypes: true }))
      .filter((e) => e.isFile() && !rewritten.includes(e.name))
      .map((e) => join(FOLDER, relative(folder, e.parentPath), e.name));
    return [SIZE, ...files];
  },
  load: async (_: unknown, { path }: Pick<Tools, 'path'>): Promise<Saved> => ({
    folder: path(FOLDER),
    ...JSON.parse(await readFile(path(SIZE), 'utf8')),
  }),
});
