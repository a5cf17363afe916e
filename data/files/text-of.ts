/** @file A text of a row: a string, or an object that holds one, as Tevatron's and DPR's passages do. */

/** What the text within an object may be called, the first that it has. */
const TEXTS = ['text', 'contents', 'content', 'passage', 'passage_text', 'body'];

/** The text, behind its title where it has one; undefined where a value is neither a text nor an object with one. */
export function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return undefined;
  const fields = value as Record<string, unknown>;
  const text = TEXTS.map((name) => fields[name]).find((t) => typeof t === 'string') as string | undefined;
  const { title } = fields;
  return text !== undefined && typeof title === 'string' && title.trim() ? `${title.trim()} ${text}` : text;
}
