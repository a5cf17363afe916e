/** @file The pre-tokenizers of tokenizer.json: a normalised text as words, each of which the model cuts by itself. */
import { bytesAsCharacters } from '../base/byte-level.ts';
import { count, type Fields, fieldsOf, flag, listOf, malformed, shown, text, unsupported } from '../base/fields.ts';
import { scriptOf } from '../base/scripts.ts';
import { characterKinds, NUMERIC, PUNCTUATION, SPACE, unitsOf, WORD } from '../base/unicode.ts';
import { type Aligned, asBytes, prefixed, slice } from './aligned.ts';
import { matches, readPattern, readRegex } from './regex.ts';
import { addPart, type Behavior, type Cuts, readBehavior, splitAt, splitByKind } from './splits.ts';

/** The words so far. */
export interface Pieces {
  texts: string[];
  /** For the first words: how many of their first units come from the first character of the whole text. */
  starts: readonly number[];
  /** The same words with where they come from, where that is asked for. */
  sources?: readonly Aligned[] | undefined;
}

export type PreTokenizer = (pieces: Pieces) => Pieces;

/** @throws TokenizerRefusal where the pre-tokenizer or an option of it is not known */
export function readPreTokenizer(value: unknown): PreTokenizer {
  if (value === null || value === undefined) return (pieces) => pieces;
  const fields = fieldsOf(value, 'pre_tokenizer');
  const read = kinds[String(fields.type)];
  if (!read || !Object.hasOwn(kinds, String(fields.type)))
    throw unsupported(
      `its pre-tokenizer ${shown(fields.type)} is not supported (${Object.keys(kinds).join(', ')} are)`,
    );
  return read(fields);
}

/** Whether a pre-tokenizer looks at where the whole text begins. */
export function asksForFirst(value: unknown): boolean {
  const fields = (value ?? {}) as { prepend_scheme?: unknown; pretokenizers?: unknown };
  if (Array.isArray(fields.pretokenizers)) return fields.pretokenizers.some(asksForFirst);
  return fields.prepend_scheme === 'first';
}

/**
 * A pre-tokenizer from what adds the parts of one piece and gives the text that it cut: the piece, perhaps with a prefix.
 * @param bytes whether the parts are the bytes of what was cut, written as characters
 */
function each(cut: (text: string, out: Cuts, first: boolean) => string, bytes = false): PreTokenizer {
  return ({ texts, starts, sources }) => {
    const cuts: Cuts = { texts: [], places: sources && [] };
    const out = cuts.texts;
    const after: number[] = [];
    const aligned: Aligned[] = [];
    for (let i = 0; i < texts.length; i++) {
      const from = out.length;
      const whole = cut(texts[i], cuts, i < starts.length);
      if (sources && cuts.places) {
        const source = whole === texts[i] ? sources[i] : prefixed(sources[i], whole);
        for (let k = from; k < out.length; k++) {
          const part = slice(source, cuts.places[2 * k], cuts.places[2 * k + 1]);
          aligned.push(bytes ? asBytes(part, out[k]) : part);
        }
      }
      if (i >= starts.length) continue;
      const reach = starts[i] + whole.length - texts[i].length;
      for (let k = from, at = 0; k < out.length; k++) {
        const found = whole.indexOf(out[k], at);
        // Bytes written as characters are not part of the text; the first of them marks its start.
        const place = found < 0 ? (k === from ? 0 : reach) : found;
        if (place >= reach) break;
        after.push(reach - place);
        at = place + out[k].length;
      }
    }
    return { texts: out, starts: after, sources: sources && aligned };
  };
}

const byKind = (kind: number, behavior: Behavior): PreTokenizer =>
  each((t, out) => {
    splitByKind(t, kind, behavior, out);
    return t;
  });

const inOrder =
  (parts: readonly PreTokenizer[]): PreTokenizer =>
  (pieces) =>
    parts.reduce((sofar, part) => part(sofar), pieces);

const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

const kinds: Record<string, (fields: Fields) => PreTokenizer> = {
  BertPreTokenizer: () => inOrder([byKind(SPACE, 'Removed'), byKind(PUNCTUATION, 'Isolated')]),
  WhitespaceSplit: () => byKind(SPACE, 'Removed'),
  Whitespace: () => each(wordsAndMarks),
  Punctuation: (fields) =>
    byKind(PUNCTUATION, fields.behavior === undefined ? 'Isolated' : readBehavior(fields.behavior, 'Punctuation')),
  Digits: (fields) => byKind(NUMERIC, flag(fields, 'individual_digits', 'Digits') ? 'Isolated' : 'Contiguous'),
  ByteLevel(fields) {
    const prefix = flag(fields, 'add_prefix_space', 'ByteLevel');
    flag(fields, 'trim_offsets', 'ByteLevel');
    const regex = flag(fields, 'use_regex', 'ByteLevel', true) ? readRegex(GPT2, 'ByteLevel') : undefined;
    return each((t, out) => {
      const whole = prefix && !t.startsWith(' ') ? ` ${t}` : t;
      const from = out.texts.length;
      if (!regex) addPart(out, whole, 0, whole.length);
      else splitAt(whole, matches(regex, whole), 'Isolated', false, out);
      for (let i = from; i < out.texts.length; i++) out.texts[i] = bytesAsCharacters(out.texts[i]);
      return whole;
    }, true);
  },
  Metaspace(fields) {
    const mark = text(fields, 'replacement', 'Metaspace');
    if ([...mark].length !== 1) throw malformed(`replacement of Metaspace is ${shown(mark)}, not one character`);
    let scheme = fields.prepend_scheme ?? 'always';
    if (scheme !== 'always' && scheme !== 'first' && scheme !== 'never')
      throw unsupported(`prepend_scheme ${shown(scheme)} of Metaspace is not supported (always, first and never are)`);
    if (fields.add_prefix_space === false) {
      if (fields.prepend_scheme !== undefined && scheme !== 'never')
        throw malformed('add_prefix_space of Metaspace contradicts its prepend_scheme');
      scheme = 'never';
    }
    const split = flag(fields, 'split', 'Metaspace', true);
    return each((t, out, first) => {
      let marked = mark === ' ' ? t : t.replaceAll(' ', mark);
      if ((scheme === 'always' || (scheme === 'first' && first)) && !marked.startsWith(mark)) marked = mark + marked;
      if (!split) addPart(out, marked, 0, marked.length);
      else splitAt(marked, places(marked, mark), 'MergedWithNext', false, out);
      return marked;
    });
  },
  Split(fields) {
    const pattern = readPattern(fields.pattern, 'Split');
    const behavior = readBehavior(fields.behavior, 'Split');
    const invert = flag(fields, 'invert', 'Split');
    return each((t, out) => {
      splitAt(t, matches(pattern, t), behavior, invert, out);
      return t;
    });
  },
  CharDelimiterSplit: readDelimiter,
  Delimiter: readDelimiter,
  FixedLength(fields) {
    const length = fields.length === undefined ? 5 : count(fields, 'length', 'FixedLength');
    if (length === 0) throw malformed('length of FixedLength is 0');
    return each((t, out) => {
      const characters = Array.from(t);
      for (let i = 0, from = 0; i < characters.length; i += length) {
        const to = from + characters.slice(i, i + length).join('').length;
        addPart(out, t, from, to);
        from = to;
      }
      return t;
    });
  },
  UnicodeScripts: () => each(byScript),
  Sequence: (fields) => inOrder(listOf(fields.pretokenizers, 'pretokenizers of Sequence').map(readPreTokenizer)),
};

function readDelimiter(fields: Fields): PreTokenizer {
  const delimiter = text(fields, 'delimiter', 'CharDelimiterSplit');
  if ([...delimiter].length !== 1)
    throw malformed(`delimiter of CharDelimiterSplit is ${shown(delimiter)}, not one character`);
  return each((t, out) => {
    splitAt(t, places(t, delimiter), 'Removed', false, out);
    return t;
  });
}

/** Occurrences of a text in another: alternating starts and ends. */
function places(t: string, part: string): number[] {
  const found: number[] = [];
  for (let at = t.indexOf(part); at >= 0; at = t.indexOf(part, at + part.length)) found.push(at, at + part.length);
  return found;
}

/** Runs of word characters and runs of others, without spaces: `\w+|[^\w\s]+` of Rust's regex. */
function wordsAndMarks(t: string, out: Cuts): string {
  const kindOf = characterKinds();
  let from = 0;
  let last = SPACE;
  for (let i = 0; i < t.length; ) {
    const code = t.codePointAt(i) as number;
    // A joiner is a word character and no space; no character is both.
    const kind = kindOf[code] & (WORD | SPACE);
    if (kind !== last) {
      if (last !== SPACE) addPart(out, t, from, i);
      from = i;
      last = kind;
    }
    i += unitsOf(code);
  }
  if (last !== SPACE) addPart(out, t, from, t.length);
  return t;
}

/** Cuts where the script changes; what comes before the first character with a script is lost, as in the library. */
function byScript(t: string, out: Cuts): string {
  let from = -1;
  let last = 0;
  for (let i = 0; i < t.length; ) {
    const code = t.codePointAt(i) as number;
    const script = scriptOf(code);
    if (script && script !== last) {
      if (from >= 0) addPart(out, t, from, i);
      from = i;
      last = script;
    }
    i += unitsOf(code);
  }
  if (from >= 0) addPart(out, t, from, t.length);
  return t;
}
