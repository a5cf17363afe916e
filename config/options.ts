/** @file Options by dotted paths: the type of what a stage gets, the object itself, and what of it is recorded. */
import { canonicalJson } from '../common/files.ts';
import type { Config } from './config.ts';

type Keys<T> = T extends unknown ? keyof T & string : never;
type Section<S extends keyof Config> = NonNullable<Config[S]>;
type Nested = {
  [S in keyof Config & string]: Section<S> extends readonly unknown[] | string | number
    ? never
    : `${S}.${Keys<Section<S>>}`;
}[keyof Config & string];

/** A section (`weighting`), an option at the top (`seed`), or an option of a section (`train.steps`). */
export type OptionPath =
  | (keyof Config & string)
  | Nested
  | 'student.keep.model'
  | 'student.keep.texts'
  | 'train.daft.model';

type PickEach<T, K> = T extends unknown ? Pick<T, K & keyof T> : never;
type At<P> = P extends keyof Config
  ? Pick<Config, P>
  : P extends `${infer S extends keyof Config & string}.${infer K}`
    ? undefined extends Config[S]
      ? { [s in S]?: PickEach<Section<S>, K> }
      : { [s in S]: PickEach<Section<S>, K> }
    : never;
type Intersection<U> = (U extends unknown ? (x: U) => void : never) extends (x: infer I) => void ? I : never;

/** Paths without those of a section that is named whole. */
type Outer<P> = Exclude<P, `${Extract<P, keyof Config>}.${string}`>;

/** The part of a config that these paths name: reading another option of it does not compile. */
export type Options<P extends OptionPath> = Intersection<
  Outer<P> extends infer O ? (O extends unknown ? At<O> : never) : never
>;

/** An object with the named options and no others. */
export function pickOptions<P extends OptionPath>(config: Config, paths: readonly P[]): Options<P> {
  const picked: Record<string, unknown> = {};
  for (const path of paths) {
    const [section, key] = path.split('.') as [keyof Config, string?];
    const value = config[section] as Record<string, unknown> | undefined;
    if (key === undefined) picked[section] = value;
    else if (picked[section] !== value) {
      const own = picked[section] as object | undefined;
      picked[section] = value && { ...own, ...(key in value && { [key]: value[key] }) };
    }
  }
  return picked as Options<P>;
}

/** Options by their dotted names as a fingerprint records them. @param except paths that are left out */
export function recordedOptions(config: Config, paths: readonly string[], except: readonly string[] = []) {
  const flat: Record<string, string> = {};
  const add = (value: unknown, at: string): void => {
    if (value === undefined || except.includes(at)) return;
    if (value && typeof value === 'object' && !Array.isArray(value))
      for (const [key, own] of Object.entries(value)) add(own, `${at}.${key}`);
    else flat[at] = canonicalJson(value);
  };
  for (const path of paths)
    add(
      path.split('.').reduce<unknown>((v, key) => (v as Record<string, unknown> | undefined)?.[key], config),
      path,
    );
  return flat;
}
