/** @file Which options are paths, and options with their paths changed. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { InputError } from '../common/errors.ts';

/** Written first into an output folder: the folder is a run's. */
export const MARK = 'onnx-distill.json';

/** Keys whose values are paths; * stands for a position in a list. */
const pathKeys = new Set([
  'output',
  'cache',
  'folder',
  'data.path',
  'continue.data',
  'continue.from',
  'continue.start',
  'evaluate.also.*',
  'embedder.files',
  'embedder.files.*',
  'embedder.ids',
  'embedder.ids.*',
  'embedder.queries.files',
  'embedder.queries.files.*',
  'embedder.queries.ids',
  'embedder.queries.ids.*',
  'teacher.model',
  'embedder.model',
  'student.model',
  'student.keep.model',
  'student.keep.texts',
  'student.keep.texts.*',
  'train.daft.model',
  'teacher.files.train',
  'teacher.files.dev',
  'teacher.files.test',
  'online.teachers.*',
  'weighting.teachers.*',
]);

/** @param key dotted, with positions in lists: `online.teachers.0` */
export const isPath = (key: string): boolean => pathKeys.has(key.replace(/\.\d+/g, '.*'));

/** Whether a path names a model, which may be one of the hub by its name. */
export const isModel = (key: string): boolean => isPath(key) && /\.model$|\.teachers\.\d+$/.test(key);

/** Levels of keys; an alias that holds itself has no end of them. */
const DEEPEST = 32;

/**
 * A copy of the options with every text changed.
 * @throws InputError where they are nested without end
 */
export function mapStrings<T>(options: T, change: (text: string, key: string) => string): T {
  const mapped = (value: unknown, key: string): unknown => {
    if (key.split('.').length > DEEPEST)
      throw new InputError({
        code: 'config.malformed',
        subject: `'${key.slice(0, 60)}...' is nested deeper than any option`,
        remedy: 'an alias of YAML may not hold itself; write the value out',
      });
    const under = (k: string | number): string => (key ? `${key}.${k}` : String(k));
    if (Array.isArray(value)) return value.map((v, i) => mapped(v, under(i)));
    if (value && typeof value === 'object')
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, mapped(v, under(k))]));
    return typeof value === 'string' ? change(value, key) : value;
  };
  return mapped(options, '') as T;
}

/** A path that holds from any folder; what is not there (a name on the hub) stays as it is. */
export const absolute = (path: string): string => (existsSync(path) ? resolve(path) : path);

/** Options whose paths hold from any folder. */
export const withAbsolutePaths = <T>(options: T): T =>
  mapStrings(options, (text, key) => (isPath(key) ? absolute(text) : text));
