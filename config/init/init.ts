/** @file Looks at a folder and writes a commented config for what it holds. */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { InputError } from '../../common/errors.ts';
import { writeWhole } from '../../common/files.ts';
import { readConfig } from '../yaml/read-yaml.ts';
import { compose } from './compose.ts';
import { look } from './find-inputs.ts';

/**
 * Writes a config that runs as it is.
 * @param file written; must not be there yet
 * @returns what was chosen, a line each
 * @throws InputError where there is no data, or the file is there already
 */
export async function init(folder: string, file = join(folder, 'distill.yaml')): Promise<string[]> {
  if (existsSync(file))
    throw new InputError({
      code: 'init.exists',
      subject: `${file} is there already`,
      remedy: 'remove it, or give another name with --file',
    });
  const found = await look(folder);
  const text = compose(found, dirname(resolve(file)));
  await writeWhole(file, text);
  readConfig(file);
  const { documents, queries } = found.dataset;
  return [
    `data: ${found.data}, ${documents.length} documents, ${queries.length} queries`,
    ...(found.dataset.notes ?? []),
    ...(found.dataset.warnings ?? []).map((w) => `warning: ${w.text}`),
    ...found.models.map((m) => `${m.kind}: ${m.folder}, ${m.layers} layers`),
    ...Object.entries(found.scores).map(([split, f]) => `scores (${split}): ${f}`),
    ...found.notes,
  ];
}
