/** @file A run's options from a YAML file: lines for messages, paths relative to the file, values set on the command line. */
import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, resolve } from 'node:path';
import { isNode, LineCounter, parseDocument } from 'yaml';
import { explainedSystem, InputError } from '../../common/errors.ts';
import { isHubName } from '../../models/model-folder.ts';
import type { Config } from '../config.ts';
import { parseConfig } from '../parse.ts';
import { isModel, isPath, mapStrings } from '../paths.ts';
import { kindNamed } from '../student.ts';
import { LONGEST, refuseLargeYaml } from './yaml-limits.ts';

/** A file that unfolds to more aliases than this was made to fill the memory. */
const MOST_ALIASES = 100;

/**
 * Reads a config.
 * @param sets `key=value` texts that override the file; values are read as YAML
 * @throws InputError that names file, line and key
 */
export function readConfig(file: string, sets: readonly string[] = []): Config {
  if (!existsSync(file))
    throw new InputError({
      code: 'config.missing',
      subject: `there is no config ${file}`,
      remedy: 'give the path of a YAML file; `distill init` writes one',
    });
  const counter = new LineCounter();
  const text = readText(file);
  refuseLargeYaml(text, file);
  const document = parsed(text, file, counter);
  const [error] = document.errors;
  if (error) {
    const { line, col } = counter.linePos(error.pos[0]);
    throw new InputError({
      code: 'config.malformed',
      subject: `${file} line ${line} column ${col} is not valid YAML (${error.message.split('\n')[0]})`,
      remedy: 'fix the line',
    });
  }
  let options: unknown;
  try {
    options = document.toJS({ maxAliasCount: MOST_ALIASES });
  } catch (cause) {
    throw new InputError({
      code: 'config.malformed',
      subject: `${file} cannot be unfolded (${(cause as Error).message})`,
      remedy: 'write it with fewer aliases',
      cause,
    });
  }
  for (const set of sets) options = applySet(options, set);
  options = mapStrings(options, (value, key) => {
    const expanded = value.replace(/\$\{(\w+)(?::-([^}]*))?\}/g, (_, name: string, otherwise?: string) =>
      environment(name, otherwise, key, file),
    );
    const service = (['teacher', 'embedder'] as const).some(
      (role) => key === `${role}.model` && get(options, role, 'kind') === 'http',
    );
    if (!isPath(key) || service) return expanded;
    const home = expanded.startsWith('~/') ? homedir() + expanded.slice(1) : expanded;
    // What is written goes where the command runs; what is read is where the file says.
    if (isAbsolute(home) || key === 'output') return home;
    const path = resolve(dirname(file), home);
    // A folder that exists is meant before a name on the hub; a new student is made in its folder.
    const made = key === 'student.model' && kindNamed(get(options, 'student') as object) !== 'model';
    return isModel(key) && !made && isHubName(home) && !existsSync(path) ? home : path;
  });
  if (options && typeof options === 'object' && !Array.isArray(options))
    options = { folder: dirname(resolve(file)), ...options };
  return parseConfig(options, file, (path) => {
    const node = document.getIn([...path], true);
    const at = isNode(node) ? node.range?.[0] : undefined;
    return at === undefined ? undefined : counter.linePos(at).line;
  });
}

function readText(file: string): string {
  let handle: number | undefined;
  try {
    handle = openSync(file, 'r');
    // No more than is parsed: a device has no end.
    const bytes = Buffer.alloc(LONGEST + 1);
    let length = 0;
    for (let n = 1; n > 0 && length < bytes.length; length += n)
      n = readSync(handle, bytes, length, bytes.length - length, null);
    return bytes.toString('utf8', 0, length);
  } catch (cause) {
    throw explainedSystem(cause, 'read the config');
  } finally {
    if (handle !== undefined) closeSync(handle);
  }
}

/** @throws InputError where it is nested so deep that the parser gives up */
function parsed(text: string, file: string, lineCounter: LineCounter): ReturnType<typeof parseDocument> {
  try {
    return parseDocument(text, { lineCounter, prettyErrors: false });
  } catch (cause) {
    throw new InputError({
      code: 'config.malformed',
      subject: `${file} cannot be read as YAML (${(cause as Error).message})`,
      remedy: 'write it with less nesting',
      cause,
    });
  }
}

const get = (options: unknown, ...keys: string[]): unknown =>
  keys.reduce((at, key) => (at as Record<string, unknown> | undefined | null)?.[key], options);

/** `${NAME}` or `${NAME:-otherwise}`. */
function environment(name: string, otherwise: string | undefined, key: string, file: string): string {
  const value = process.env[name] ?? otherwise;
  if (value === undefined)
    throw new InputError({
      code: 'config.environment',
      subject: `${file}: '${key}' uses the environment variable ${name}, which is not set`,
      remedy: `set ${name} or write the path`,
    });
  return value;
}

/** The value of a `key=value`, read as YAML without aliases. */
function parsedValue(set: string, from: number): unknown {
  try {
    const document = parseDocument(set.slice(from), { prettyErrors: false });
    if (document.errors.length) throw document.errors[0];
    return document.toJS({ maxAliasCount: 0 });
  } catch (cause) {
    throw new InputError({
      code: 'config.set',
      subject: `--set '${set}' has a value that is not YAML or refers to another (${(cause as Error).message.split('\n')[0]})`,
      remedy: 'write the value out, in quotation marks where it holds : or #',
      cause,
    });
  }
}

/** `a.b.0.c=value`: a copy of the options with that key set. */
export function applySet(options: unknown, set: string): unknown {
  const at = set.indexOf('=');
  if (at < 1)
    throw new InputError({
      code: 'config.set',
      subject: `--set '${set}'`,
      expected: 'key=value',
      remedy: 'e.g. --set train.epochs=2',
    });
  const keys = set.slice(0, at).split('.');
  const value = parsedValue(set, at + 1);
  if (keys.some((k) => ['__proto__', 'constructor', 'prototype'].includes(k)))
    throw new InputError({
      code: 'config.set',
      subject: `--set '${set}' names no option`,
      remedy: 'see `distill schema`',
    });
  const put = (here: unknown, i: number): unknown => {
    if (i === keys.length) return value;
    if (Array.isArray(here)) return here.map((v, k) => (String(k) === keys[i] ? put(v, i + 1) : v));
    const object = (here ?? {}) as Record<string, unknown>;
    return { ...object, [keys[i]]: put(object[keys[i]], i + 1) };
  };
  return put(options ?? {}, 0);
}
