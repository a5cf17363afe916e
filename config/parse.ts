/** @file Reads a run's options from an object: keys, kinds, contradictions. */
import { checkOptions } from './check-options.ts';
import { type Config, configSchema } from './config.ts';
import { completed } from './validate.ts';

const RENAMED = { queries: 'querySelection', 'train.queries': 'train.batchSize' };

/**
 * Checks options and fills in defaults.
 * @param where what messages call the source, e.g. the file's name
 * @param lineOf the line of a key in the file, where it comes from one
 * @throws InputError for the first mistake: key, what was expected, what was received, the nearest known key
 */
export function parseConfig(
  input: unknown,
  where = 'the config',
  lineOf?: (path: readonly PropertyKey[]) => number | undefined,
): Config {
  const schemaCommand = 'distill schema';
  return completed(
    checkOptions(configSchema, input, { where, schemaCommand, code: 'config', renamed: RENAMED, lineOf }),
    where,
  );
}
