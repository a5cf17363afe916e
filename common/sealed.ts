/** @file JSON files with a checksum of their own text: a file that was cut, changed or mixed with another one is recognised. */
import { createHash } from 'node:crypto';

const MARK = ',\n "check": "';
const END = '"\n}\n';
const sumOf = (text: string): string => createHash('sha256').update(text).digest('hex');

/** A JSON object as text, its last key `check` the sha256 of the text before it. */
export function sealed(value: object, indent?: number): string {
  const text = JSON.stringify(value, null, indent).replace(/\n?\}$/, '');
  return `${text}${MARK}${sumOf(text)}${END}`;
}

/** Why a text is not what `sealed` wrote. */
export type Unsealed = 'not JSON' | 'it has no checksum' | 'its checksum differs';

/** @returns the object without its checksum, or why there is none that can be relied on, with what the text says of its format */
export function unsealed(
  text: string,
): { value: Record<string, unknown> } | { why: Unsealed; format?: unknown; value?: undefined } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // Answered below.
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return { why: 'not JSON' };
  const { check, ...rest } = value as Record<string, unknown>;
  if (check === undefined) return { why: 'it has no checksum', format: rest.format };
  const at = text.lastIndexOf(MARK);
  const whole = at >= 0 && text.slice(at) === `${MARK}${sumOf(text.slice(0, at))}${END}`;
  return whole ? { value: rest } : { why: 'its checksum differs', format: rest.format };
}

/** The problem as a message says it: the format first, where it is another one. */
export function unsealedReason({ why, format }: { why: Unsealed; format?: unknown }, expected: string): string {
  return why !== 'not JSON' && format !== expected ? `format ${JSON.stringify(format)}, expected ${expected}` : why;
}
