/** @file Reads a config from an object: keys, kinds, contradictions. */

import { z } from 'zod';
import { InputError, nearest } from '../../common/errors.ts';
import { type Config, configSchema } from './config.ts';
import { completed } from './validate.ts';

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
  const result = configSchema.safeParse(input);
  if (result.success) return completed(result.data, where);
  const issue = result.error.issues[0];
  const keys = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0]] : issue.path;
  const line = lineOf?.(keys);
  const subject = `${where}${line ? ` line ${line}` : ''}: '${keys.join('.')}'`;
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(issue.path);
    const near = nearest(issue.keys[0], known);
    throw new InputError({
      code: 'config.unknown-key',
      subject: `${subject} is no known key`,
      remedy: near ? `did you mean '${near}'?` : `known here are ${known.join(', ')}`,
    });
  }
  const received = keys.reduce<unknown>((v, k) => (v as Record<PropertyKey, unknown> | undefined)?.[k], input);
  throw new InputError({
    code: 'config.invalid',
    subject: `${subject} ${issue.message
      .replace(/^Invalid input: /, '')
      .replace(/^Invalid/, 'is invalid')
      .replace(/^expected (.*), received undefined$/, 'is missing: $1 is expected')
      .replace(/^expected (.*), received (.*)$/, 'is $2 where $1 is expected')}`,
    received: received === undefined ? undefined : JSON.stringify(received)?.slice(0, 80),
    remedy: 'mend it; `distill schema` prints what is possible',
  });
}
/** Keys that the schema knows at a place, for suggestions. */
export function knownKeys(at: readonly PropertyKey[]): string[] {
  interface Node {
    properties?: Record<string, Node>;
    items?: Node;
    anyOf?: Node[];
    oneOf?: Node[];
  }
  let nodes = [z.toJSONSchema(configSchema, { io: 'input' }) as Node];
  const open = (n: Node): Node[] =>
    [n, ...(n.anyOf ?? []), ...(n.oneOf ?? [])].flatMap((m) => (m === n ? [m] : open(m)));
  for (const key of at)
    nodes = nodes
      .flatMap(open)
      .flatMap((n) => (typeof key === 'number' ? (n.items ? [n.items] : []) : (n.properties?.[String(key)] ?? [])));
  return [...new Set(nodes.flatMap(open).flatMap((n) => Object.keys(n.properties ?? {})))];
}
