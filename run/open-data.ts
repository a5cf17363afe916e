/** @file The data of a run: one data set, or old and new data of a student that goes on learning. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../common/errors.ts';
import type { RunControl } from '../common/progress.ts';
import type { Config } from '../config/config.ts';
import { continuedDataset } from '../data/continued/continued.ts';
import type { Dataset } from '../data/dataset.ts';
import { openAsRun } from '../data/open.ts';
import { TextTokenizer } from '../data/tokenizer.ts';
import { readModelFolder } from '../models/model-folder.ts';
import { LEXICAL_FILE } from '../retrieval/lexical-channel.ts';

/**
 * The data set as a run with these options reads it, for the queries of one split.
 * @param split absent: the documents alone are read
 * @throws InputError where it cannot be read
 */
export const openSplit = ({ data }: Pick<Config, 'data'>, split?: string, watch: RunControl = {}): Promise<Dataset> =>
  openAsRun(data.path as string, data, [split], watch);

/** @throws InputError where a data set cannot be read, and where there is nothing new to learn */
export async function openData({ data, continue: c, seed, train }: Config): Promise<Dataset> {
  const options = { ...data, queryMetadata: typeof train.stream?.by === 'string' };
  const path = data.path as string;
  const learned = [data.splits.train];
  if (!c) return openAsRun(path, options, learned);
  if (!existsSync(path))
    throw new InputError({
      code: 'continue.old-data',
      subject: `there is no old data ${path}, of which queries are replayed and measured`,
      remedy: "name the data that the checkpoint was trained on under 'data.path'",
    });
  // The old data as the run read them that made the checkpoint. In the new ones, queries are not made for judged data that lack a
  // split to learn from: there is nothing new in them.
  const old = await openAsRun(path, options, learned);
  const fresh = await openAsRun(c.data, { ...options, corpus: old.documents, madeIds: 'new-made' }, []);
  const { splits, unlabelled } = data;
  return continuedDataset(old, fresh, { splits, unlabelled, replay: c.replay, seed });
}

/** What a checkpoint says of the run that made it; what is absent is not known. */
interface Provenance {
  embedder?: string;
  config?: {
    student?: { kind?: string; towers?: string };
    continue?: unknown;
    data?: Partial<Config['data']>;
  };
}

/**
 * Whether a checkpoint can be continued by the config: the same towers, tokenizer and frozen documents.
 * @param embedder key of the config's embedder, whose documents a query tower searches
 * @param warn is told of what is not carried on
 * @throws InputError that names what differs
 */
export async function checkContinued(
  config: Config,
  embedder: string | undefined,
  warn: (code: string, text: string) => void,
): Promise<void> {
  const { continue: c, student } = config;
  if (!c) return;
  const { from, start } = c;
  const { folder } = await readModelFolder(from);
  const made = await provenanceOf(folder);
  const { kind, towers } = made.config?.student ?? {};
  const refuse = (subject: string, remedy: string): never => {
    throw new InputError({ code: 'continue.checkpoint', subject, remedy });
  };
  for (const option of ['splitSeed', 'holdOut'] as const) {
    const then = made.config?.data?.[option];
    if (then !== undefined && then !== config.data[option])
      refuse(
        `${from} was trained with data.${option} ${then} and the config has ${config.data[option]}: queries that are held out or generated for dev and test would be others, and training saw some of them`,
        `set data.${option} to ${then}`,
      );
  }
  if (kind === 'static')
    refuse(
      `${from} is a static student, which cannot be continued: its table is fitted to all texts at once, in minutes`,
      'train it again on the old and the new data together',
    );
  if (towers !== undefined && towers !== student.towers)
    refuse(
      `${from} ${towers === 'query' ? 'is a query tower over frozen documents' : 'encodes queries and documents'} and the config trains ${student.towers === 'query' ? 'a query tower over frozen documents' : 'both towers'}`,
      'continue it with the config that it was made by',
    );
  if (student.towers === 'query' && made.embedder !== undefined && embedder !== undefined && made.embedder !== embedder)
    refuse(
      `${from} searches the documents of another embedder than the config's, or of one with other token limits`,
      "name the embedder that it was trained over under 'embedder', with the same queryTokens and documentTokens",
    );
  const other = start && start !== from && existsSync(start) ? await readModelFolder(start) : undefined;
  if (other) {
    const [own, theirs] = [await TextTokenizer.load(folder), await TextTokenizer.load(other.folder)];
    if (own.hash !== theirs.hash)
      refuse(
        `${from} has another tokenizer than ${start}, from which the config's student began`,
        'continue a checkpoint of this config, or name its start under student.model',
      );
  }
  if (existsSync(join(folder, LEXICAL_FILE)) && !config.hybrid)
    warn(
      'continue.hybrid',
      `${from} is combined with BM25 (${LEXICAL_FILE}) and the config has no 'hybrid': the new checkpoint is the dense student alone`,
    );
}

async function provenanceOf(folder: string): Promise<Provenance> {
  const file = join(folder, 'distill.json');
  if (!existsSync(file)) return {};
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Provenance;
  } catch (cause) {
    throw new InputError({
      code: 'continue.checkpoint',
      subject: `${file} is not JSON`,
      remedy: 'remove the file, or copy the checkpoint again',
      cause,
    });
  }
}
