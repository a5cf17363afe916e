/** @file Documents as an engine can hold them: engines keep UTF-8, in which there is no half of a surrogate pair. */
import { createHash } from 'node:crypto';
import type { EngineDocument } from './engine.ts';

const REPLACED = '\ufffd';

/** @param zero whether the character 0 can be held */
export const heldText = (text: string, zero: boolean): string => {
  const whole = text.isWellFormed() ? text : text.toWellFormed();
  return zero || !whole.includes('\0') ? whole : whole.replaceAll('\0', REPLACED);
};

/** Characters of a longer key that stand before its hash. */
const SHOWN_OF_KEY = 60;

/** What is looked up as a whole, of documents and queries alike: where it has more bytes than an index holds, the rest is its hash. */
export function heldKey(text: string, most: number): string {
  if (3 * text.length <= most || Buffer.byteLength(text) <= most) return text;
  return `${text.slice(0, SHOWN_OF_KEY).toWellFormed()}#${createHash('sha256').update(text).digest('hex')}`;
}

/**
 * A document with U+FFFD for what cannot be held; the same object where all of it can. Metadata is kept as JSON, in which the
 * character 0 is written as an escape.
 */
export function heldDocument<T extends EngineDocument>(document: T, zero: boolean): T {
  const text = heldText(document.text, zero);
  const metadata = heldValue(document.metadata);
  return text === document.text && metadata === document.metadata ? document : { ...document, text, metadata };
}

/** A JSON value with well-formed texts and names of fields; the same object where they are. */
export function heldValue<T>(value: T): T {
  if (typeof value === 'string') return heldText(value, true) as T;
  if (typeof value !== 'object' || value === null) return value;
  const text = JSON.stringify(value);
  // JSON writes half of a pair as an escape.
  if (text === undefined || !HALF.test(text)) return value;
  return JSON.parse(text.replace(HALVES, (_, before: string) => `${before}${REPLACED}`)) as T;
}

/** An escape of half a pair: one after an even number of backslashes. */
const HALF = /(?<!\\)((?:\\\\)*)\\ud[89a-f][0-9a-f]{2}/;
const HALVES = new RegExp(HALF, 'g');
