/** @file Further data sets that a run measures its systems on (`evaluate.also`): opened before anything is made. */
import { basename, resolve } from 'node:path';
import { InputError } from '../common/errors.ts';
import { hashAll } from '../common/files.ts';
import type { Config } from '../config/config.ts';
import { type Dataset, judgedQueries } from '../data/dataset.ts';
import { openAsRun, openDataset } from '../data/open.ts';
import { given, type Result } from './stages/stage.ts';

/** A further data set and the split of it that is measured. */
export interface AlsoSet {
  /** Its column in tables; unlike those of the other sets. */
  name: string;
  dataset: Dataset;
  split: string;
}

/**
 * @param note says the split where it is not the test split
 * @throws InputError where a set cannot be read, judges no query, or the documents cannot be embedded
 */
export async function openAlso(config: Config, note: (text: string) => void): Promise<Result<readonly AlsoSet[]>> {
  const paths = config.evaluate.also ?? [];
  if (paths.length && config.embedder?.kind === 'vectors' && config.student.towers === 'query')
    throw new InputError({
      code: 'evaluate.also-vectors',
      subject: "'evaluate.also' names other documents, and the embedder's vectors are those of 'data.path' alone",
      remedy: "name the embedder's model in place of its vectors, or leave 'evaluate.also' out",
    });
  const sets: AlsoSet[] = [];
  const parts: Record<string, string> = {};
  for (const [i, path] of paths.entries()) {
    // The run's own data are read as it reads them: other held-out queries would be among those that it learns from.
    const own = config.data.path !== undefined && resolve(path) === resolve(config.data.path);
    const dataset = own ? await openAsRun(path, config.data, [config.data.splits.test]) : await openDataset(path);
    const { test, dev } = config.data.splits;
    const split = [test, dev].find((s) => s !== null && dataset.splits.includes(s) && judgedQueries(dataset, s).length);
    if (typeof split !== 'string')
      throw new InputError({
        code: 'evaluate.also-unjudged',
        subject: `evaluate.also.${i}: ${path} judges no query in the split '${test}'${dev === null ? '' : ` or '${dev}'`}`,
        received: `the splits ${dataset.splits.join(', ') || '(none)'}`,
        remedy: 'add a file of judgements (qrels) for one of these splits, or leave the path out',
      });
    const said = [...(dataset.notes ?? []), ...(dataset.warnings ?? []).map(({ text }) => `warning: ${path}: ${text}`)];
    for (const text of said) note(`evaluate.also: ${text}`);
    if (split !== test) note(`evaluate.also: ${path} has no judgements in '${test}'; its split '${split}' is measured`);
    const short = basename(path);
    const name = sets.some((s) => s.name === short) ? `${short} (${i + 1})` : short;
    sets.push({ name, dataset, split });
    parts[`evaluate.also.${i}`] = hashAll(
      (function* () {
        yield split;
        yield dataset.documents.hash;
        yield dataset.queries.hash;
        for (const [query, grades] of dataset.qrels(split)) yield JSON.stringify([query, ...grades]);
      })(),
    );
  }
  return given(sets, parts);
}
