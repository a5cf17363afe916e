/** @file Where the tokens of a text stand in it, counted as the library counts: in characters, without spaces that are trimmed. */
import { byteCharacters } from './base/byte-level.ts';
import { fieldsOf, flag, listOf } from './base/fields.ts';
import { characterKinds, SPACE } from './base/unicode.ts';

/** Ids of a text with begin and end of each in it. */
export interface Located {
  readonly ids: number[];
  /** Two numbers an id, in units of UTF-16; -1 where they are not known. */
  readonly spans: number[];
  /** The tokens: those that were added as they stand in the text, with spaces that they take. */
  readonly tokens: string[];
}

/** Post-processors that take spaces out of the offsets of tokens, each with whether the first token got a space in front. */
export function readTrims(value: unknown): boolean[] {
  if (value === null || value === undefined) return [];
  const fields = fieldsOf(value, 'post_processor');
  const { type } = fields;
  if (type === 'Sequence') return listOf(fields.processors, 'processors of Sequence').flatMap(readTrims);
  if (type !== 'ByteLevel' && type !== 'RobertaProcessing') return [];
  return flag(fields, 'trim_offsets', type, true) ? [flag(fields, 'add_prefix_space', type, true)] : [];
}

/** Spans in characters: code points, as Python counts them. */
export function inCharacters(text: string, spans: readonly number[]): number[] {
  const before = new Int32Array(text.length + 1);
  for (let i = 0, n = 0; i < text.length; n++) {
    const next = i + ((text.codePointAt(i) as number) > 0xffff ? 2 : 1);
    before.fill(n, i, next);
    i = next;
    before[i] = n + 1;
  }
  return spans.map((at) => (at < 0 ? at : before[at]));
}

const MARK = byteCharacters[0x20];

/**
 * Takes the spaces at the ends of tokens out of their spans.
 * @param prefix whether a space may have been put before the text, which is not in it
 * @source pre_tokenizers/byte_level.rs, process_offsets, of Hugging Face's tokenizers
 */
export function trim(spans: readonly number[], tokens: readonly string[], prefix: boolean): number[] {
  const out = [...spans];
  const kinds = characterKinds();
  const isSpace = (c: string): boolean => c === MARK || (kinds[c.codePointAt(0) as number] & SPACE) !== 0;
  for (const [i, token] of tokens.entries()) {
    if (out[2 * i] < 0) continue;
    const characters = Array.from(token);
    const text = characters.findIndex((c) => !isSpace(c));
    let leading = text < 0 ? characters.length : text;
    const trailing =
      text < 0 ? characters.length : characters.length - 1 - characters.findLastIndex((c) => !isSpace(c));
    if (leading && prefix && (i === 0 || out[2 * i] === 0)) leading--;
    const from = Math.min(out[2 * i] + leading, out[2 * i + 1]);
    out[2 * i] = from;
    if (trailing && out[2 * i + 1] >= trailing) out[2 * i + 1] = Math.max(out[2 * i + 1] - trailing, from);
  }
  return out;
}
