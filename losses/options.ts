/** @file Options of losses as data: allowed values, default and description, shared by programs, configs and help. */
import { InputError } from '../common/errors.ts';

interface Described<T, D> {
  readonly default: D;
  readonly description: string;
  /** The type of its values; exists only at compile time. */
  readonly value?: T;
}

/** One option of a loss: the kind of its values, their bounds, default and description. */
export type Option<T = unknown, D = T | undefined> = Described<T, D> &
  (
    | { readonly kind: 'number'; readonly above?: number; readonly from?: number; readonly whole?: boolean }
    | { readonly kind: 'choice' | 'choices'; readonly of: readonly string[] }
    | { readonly kind: 'group'; readonly options: OptionTable }
  );

/** The options of a loss by name. */
export interface OptionTable {
  readonly [name: string]: Option;
}

type ValueOf<O> = O extends Described<infer T, unknown> ? T : never;
/** Values by the names of a table; undefined only where there is no default. */
export type OptionValues<T extends OptionTable> = {
  [K in keyof T]: T[K]['default'] extends undefined ? ValueOf<T[K]> | undefined : ValueOf<T[K]>;
};

/** Description of `shift`, shared by several losses. */
export const SHIFT =
  'added to the scaled scores: -10, so that cosines times 20 can follow logits; 0 for dot products, or where a dual-encoder teaches';

/** Any number. */
export const number = <D extends number | undefined>(value: D, description: string): Option<number, D> => ({
  kind: 'number',
  default: value,
  description,
});
export const positive = <D extends number | undefined>(value: D, description: string): Option<number, D> => ({
  ...number(value, description),
  kind: 'number',
  above: 0,
});
export const notNegative = <D extends number | undefined>(value: D, description: string): Option<number, D> => ({
  ...number(value, description),
  kind: 'number',
  from: 0,
});
/** A whole number, at least `from`. */
export const count = <D extends number | undefined>(value: D, description: string, from = 1): Option<number, D> => ({
  ...number(value, description),
  kind: 'number',
  from,
  whole: true,
});
export const choice = <const V extends string, D extends V | undefined>(
  of: readonly V[],
  value: D,
  description: string,
): Option<V, D> => ({ kind: 'choice', of, default: value, description });
/** One or more of some names. */
export const choices = <const V extends string>(
  of: readonly V[],
  value: readonly V[],
  description: string,
): Option<readonly V[], readonly V[]> => ({ kind: 'choices', of, default: value, description });
/** Options that must be given together. */
export const group = <T extends OptionTable>(
  options: T,
  description: string,
): Option<{ [K in keyof T]: ValueOf<T[K]> }, undefined> => ({
  kind: 'group',
  options,
  default: undefined,
  description,
});

/**
 * Checks the options that a program gives and fills in defaults.
 * @throws InputError for a value that an option cannot have
 */
export function withDefaults<T extends OptionTable>(table: T, given: object): OptionValues<T> {
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries<Option>(table)) {
    const value = (given as Record<string, unknown>)[name] ?? option.default;
    if (value !== undefined && !fits(option, value))
      throw new InputError({
        code: 'loss.option',
        subject: `the option '${name}' of a loss`,
        expected: expectedOf(option),
        received: JSON.stringify(value) ?? String(value),
        remedy: option.description,
      });
    values[name] = value;
  }
  return values as OptionValues<T>;
}

function fits(option: Option, value: unknown): boolean {
  switch (option.kind) {
    case 'number': {
      const { above = Number.NEGATIVE_INFINITY, from = Number.NEGATIVE_INFINITY, whole } = option;
      return typeof value === 'number' && value > above && value >= from && (!whole || value % 1 === 0);
    }
    case 'choice':
      return option.of.includes(value as string);
    case 'choices':
      return Array.isArray(value) && value.length > 0 && value.every((v) => option.of.includes(v));
    case 'group':
      return (
        typeof value === 'object' &&
        value !== null &&
        Object.entries(option.options).every(([k, o]) => fits(o, (value as Record<string, unknown>)[k]))
      );
  }
}

function expectedOf(option: Option): string {
  switch (option.kind) {
    case 'number':
      return `a ${option.whole ? 'whole ' : ''}number${option.above === undefined ? '' : ` above ${option.above}`}${option.from === undefined ? '' : ` from ${option.from} on`}`;
    case 'choice':
      return `one of ${option.of.join(', ')}`;
    case 'choices':
      return `some of ${option.of.join(', ')}`;
    case 'group':
      return Object.entries(option.options)
        .map(([k, o]) => `${k}: ${expectedOf(o)}`)
        .join(', ');
  }
}
