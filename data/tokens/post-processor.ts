/** @file The post-processors of tokenizer.json: special tokens around texts, and the segment of each token. */
import {
  count,
  type Fields,
  fieldsOf,
  HIGHEST_ID,
  listOf,
  malformed,
  shown,
  text,
  unsupported,
} from './base/fields.ts';

/** A part of a sequence: the tokens of a text (0 the first, 1 the second), or special tokens. */
export interface Part {
  /** Index of the text whose tokens are inserted here; undefined for special tokens. */
  readonly text?: 0 | 1;
  /** Special tokens. */
  readonly ids: readonly number[];
  /** Segment of these tokens (token type). */
  readonly type: number;
}

export interface Templates {
  readonly single: readonly Part[];
  readonly pair: readonly Part[];
}

const special = (id: number, type: number): Part => ({ ids: [id], type });
const place = (t: 0 | 1, type: number): Part => ({ text: t, ids: [], type });
const bare: Templates = { single: [place(0, 0)], pair: [place(0, 0), place(1, 1)] };

/** @throws TokenizerRefusal where the post-processor or an option of it is not known */
export function readPostProcessor(value: unknown): Templates {
  if (value === null || value === undefined) return bare;
  const fields = fieldsOf(value, 'post_processor');
  switch (fields.type) {
    case 'ByteLevel':
      return bare; // it moves offsets alone
    case 'BertProcessing': {
      const [cls, sep] = around(fields, 'BertProcessing');
      const single = [special(cls, 0), place(0, 0), special(sep, 0)];
      return { single, pair: [...single, place(1, 1), special(sep, 1)] };
    }
    case 'RobertaProcessing': {
      const [cls, sep] = around(fields, 'RobertaProcessing');
      const single = [special(cls, 0), place(0, 0), special(sep, 0)];
      return { single, pair: [...single, special(sep, 0), place(1, 0), special(sep, 0)] };
    }
    case 'TemplateProcessing':
      return readTemplates(fields);
    case 'Sequence': {
      const parts = listOf(fields.processors, 'processors of Sequence').map(readPostProcessor);
      const told = parts.filter((p) => p !== bare);
      if (told.length > 1)
        throw unsupported('its post-processor Sequence holds several that put special tokens around a text');
      return told[0] ?? bare;
    }
    default:
      throw unsupported(
        `its post-processor ${shown(fields.type)} is not supported (BertProcessing, ByteLevel, RobertaProcessing, Sequence and TemplateProcessing are)`,
      );
  }
}

function around(fields: Fields, what: string): [number, number] {
  return ['cls', 'sep'].map((key) => {
    const pair = listOf(fields[key], `${key} of ${what}`);
    return count({ id: pair[1] }, 'id', `${key} of ${what}`, HIGHEST_ID);
  }) as [number, number];
}

function readTemplates(fields: Fields): Templates {
  const what = 'TemplateProcessing';
  const tokens = fieldsOf(fields.special_tokens, `special_tokens of ${what}`);
  const read = (key: 'single' | 'pair'): Part[] =>
    listOf(fields[key], `${key} of ${what}`).map((piece) => {
      const { Sequence, SpecialToken } = fieldsOf(piece, `a piece of ${what}`);
      if (Sequence !== undefined) {
        const sequence = fieldsOf(Sequence, `a sequence of ${what}`);
        const type = count(sequence, 'type_id', what, 255);
        if (sequence.id === 'A' || (sequence.id === 'B' && key === 'pair'))
          return place(sequence.id === 'A' ? 0 : 1, type);
        throw malformed(`${key} of ${what} names the sequence ${shown(sequence.id)}`);
      }
      const token = fieldsOf(SpecialToken, `a piece of ${what}`);
      const id = text(token, 'id', what);
      if (!Object.hasOwn(tokens, id)) throw malformed(`${what} has no ids for its special token ${shown(id)}`);
      const ids = listOf(fieldsOf(tokens[id], `special_tokens of ${what}`).ids, `ids of ${shown(id)}`);
      for (const value of ids) count({ ids: value }, 'ids', `${shown(id)} in ${what}`, HIGHEST_ID);
      return { ids: ids as number[], type: count(token, 'type_id', what, 255) };
    });
  const templates = { single: read('single'), pair: read('pair') };
  // Each text exactly once: otherwise truncation is ambiguous.
  const times = (parts: readonly Part[], t: number): number => parts.filter((p) => p.text === t).length;
  if (times(templates.single, 0) !== 1) throw unsupported(`single of ${what} does not hold its text once`);
  if (times(templates.pair, 0) !== 1 || times(templates.pair, 1) !== 1)
    throw unsupported(`pair of ${what} does not hold each text once`);
  return templates;
}
