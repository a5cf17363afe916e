/** @file Values of a tokenizer's JSON read by type, and the refusal of what is not understood. */

/** Why a tokenizer cannot be read: a part of it, what is wrong with it, and what helps. The reader adds the file's name. */
export class TokenizerRefusal extends Error {
  readonly code: 'tokenizer.malformed' | 'tokenizer.unsupported';
  readonly remedy: string;
  constructor(code: 'tokenizer.malformed' | 'tokenizer.unsupported', message: string, remedy?: string) {
    super(message);
    this.code = code;
    this.remedy =
      remedy ??
      (code === 'tokenizer.malformed'
        ? 'save it again with a recent version of tokenizers'
        : 'use a model with another tokenizer, or save this one again without that part');
  }
}

export const malformed = (message: string): TokenizerRefusal => new TokenizerRefusal('tokenizer.malformed', message);
export const unsupported = (message: string, remedy?: string): TokenizerRefusal =>
  new TokenizerRefusal('tokenizer.unsupported', message, remedy);

export type Fields = Readonly<Record<string, unknown>>;

/** A value as a message shows it: short, on one line. */
export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

export function fieldsOf(value: unknown, what: string): Fields {
  if (value && typeof value === 'object' && !Array.isArray(value)) return value as Fields;
  throw malformed(`${what} is ${shown(value)}, not an object`);
}

export function listOf(value: unknown, what: string): readonly unknown[] {
  if (Array.isArray(value)) return value;
  throw malformed(`${what} is ${shown(value)}, not a list`);
}

export function text(fields: Fields, key: string, what: string): string {
  const value = fields[key];
  if (typeof value === 'string') return value.toWellFormed();
  throw malformed(`${key} of ${what} is ${shown(value)}, not a text`);
}

export function optionalText(fields: Fields, key: string, what: string): string | undefined {
  return fields[key] === undefined || fields[key] === null ? undefined : text(fields, key, what);
}

/** @param otherwise what an absent key means; without it, an absent key is refused */
export function flag(fields: Fields, key: string, what: string, otherwise?: boolean): boolean {
  const value = fields[key] ?? otherwise;
  if (typeof value === 'boolean') return value;
  throw malformed(`${key} of ${what} is ${shown(fields[key])}, not true or false`);
}

/** A whole number that is not negative. */
export function count(fields: Fields, key: string, what: string, most = Number.MAX_SAFE_INTEGER): number {
  const value = fields[key];
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= most) return value;
  throw malformed(`${key} of ${what} is ${shown(value)}, not a whole number from 0 to ${most}`);
}

/** No model has as many tokens; an id above would only reserve memory. */
export const HIGHEST_ID = 2 ** 24 - 1;

/** Tokens with their ids. */
export function vocabularyOf(value: unknown, what: string): Map<string, number> {
  const ids = new Map<string, number>();
  for (const [token, id] of Object.entries(fieldsOf(value, `the vocabulary of ${what}`))) {
    if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > HIGHEST_ID)
      throw malformed(
        `the id of ${shown(token)} in the vocabulary of ${what} is ${shown(id)}, not a whole number from 0 to ${HIGHEST_ID}`,
      );
    ids.set(token, id);
  }
  return ids;
}
