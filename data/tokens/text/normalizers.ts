/** @file The normalizers of tokenizer.json: they change a text before it is split. */
import { bytesAsCharacters } from '../base/byte-level.ts';
import { type Fields, fieldsOf, flag, listOf, optionalText, shown, text, unsupported } from '../base/fields.ts';
import { COMBINING, CONTROL, characterKinds, IDEOGRAPH, INERT, NONSPACING, SPACE, unitsOf } from '../base/unicode.ts';
import { type Aligned, Builder, changed, prefixed, slice } from './aligned.ts';
import { readCharsmap } from './charsmap.ts';
import { matches, readPattern } from './regex.ts';

export interface Normalizer {
  apply(text: string): string;
  /** The same, with where each unit of the result comes from. */
  align(text: Aligned): Aligned;
  /** Whether the first character of the result comes from the first character of the text, which was not removed. */
  keepsFirst(text: string): boolean;
}

const always = (): boolean => true;
/** A change that looks at few characters at a time. */
const near = (
  apply: (text: string) => string,
  keepsFirst: Normalizer['keepsFirst'] = always,
  oneByOne = false,
): Normalizer => ({ apply, align: (a) => changed(a, apply, oneByOne), keepsFirst });
const isAscii = (text: string): boolean => !/[^\0-\x7f]/.test(text);

/** @throws TokenizerRefusal where the normalizer or an option of it is not known */
export function readNormalizer(value: unknown): Normalizer {
  if (value === null || value === undefined) return { apply: (t) => t, align: (a) => a, keepsFirst: always };
  const fields = fieldsOf(value, 'normalizer');
  const read = kinds[String(fields.type)];
  if (!read || !Object.hasOwn(kinds, String(fields.type)))
    throw unsupported(`its normalizer ${shown(fields.type)} is not supported (${Object.keys(kinds).join(', ')} are)`);
  return read(fields);
}

const kinds: Record<string, (fields: Fields) => Normalizer> = {
  BertNormalizer: readBert,
  Bert: readBert,
  Lowercase: () => near(lowercase),
  NFC: () => normalForm('NFC'),
  NFD: () => normalForm('NFD'),
  NFKC: () => normalForm('NFKC'),
  NFKD: () => normalForm('NFKD'),
  Nmt: () => near(nmt, (t) => !nmtRemoves(t.charCodeAt(0))),
  StripAccents: () => without(COMBINING),
  Strip(fields) {
    const left = flag(fields, 'strip_left', 'Strip');
    const right = flag(fields, 'strip_right', 'Strip');
    return {
      apply: (t) => strip(t, left, right),
      align(a) {
        const from = a.text.length - strip(a.text, left, false).length;
        return slice(a, from, from + strip(a.text, left, right).length);
      },
      keepsFirst: (t) => !left || strip(t, true, false).length === t.length,
    };
  },
  Replace(fields) {
    const pattern = readPattern(fields.pattern, 'Replace');
    const content = text(fields, 'content', 'Replace');
    return {
      apply: (t) => replaceMatches(t, matches(pattern, t), content),
      align: (a) => alignMatches(a, matches(pattern, a.text), content),
      keepsFirst(t) {
        const [from, to] = matches(pattern, t);
        return from !== 0 || to === 0 || (content !== '' && to === unitsOf(t.codePointAt(0) as number));
      },
    };
  },
  Prepend(fields) {
    const prefix = text(fields, 'prepend', 'Prepend');
    const apply = (t: string): string => (t ? prefix + t : t);
    return { apply, align: (a) => (a.text ? prefixed(a, prefix + a.text) : a), keepsFirst: always };
  },
  ByteLevel: () => near(bytesAsCharacters),
  Precompiled(fields) {
    const table = readCharsmap(optionalText(fields, 'precompiled_charsmap', 'Precompiled'));
    return near(table, always, true);
  },
  Sequence(fields) {
    const parts = listOf(fields.normalizers, 'normalizers of Sequence').map(readNormalizer);
    return {
      apply: (t) => parts.reduce((sofar, n) => n.apply(sofar), t),
      align: (a) => parts.reduce((sofar, n) => n.align(sofar), a),
      keepsFirst(t) {
        let sofar = t;
        for (const n of parts) {
          if (!n.keepsFirst(sofar)) return false;
          sofar = n.apply(sofar);
        }
        return true;
      },
    };
  },
};

function readBert(fields: Fields): Normalizer {
  const clean = flag(fields, 'clean_text', 'BertNormalizer');
  const ideographs = flag(fields, 'handle_chinese_chars', 'BertNormalizer');
  const lower = flag(fields, 'lowercase', 'BertNormalizer');
  const accents = flag(fields, 'strip_accents', 'BertNormalizer', lower);
  const marks = without(NONSPACING);
  const nfd = normalForm('NFD').apply;
  return near(
    (t) => {
      let out = clean ? cleanText(t) : t;
      if (!isAscii(out)) {
        if (ideographs) out = spaceIdeographs(out);
        if (accents) out = marks.apply(nfd(out));
      }
      return lower ? lowercase(out) : out;
    },
    (t) =>
      (!clean || (characterKinds()[t.codePointAt(0) as number] & CONTROL) === 0) &&
      (!accents || marks.keepsFirst(nfd(t))),
  );
}

/** Lower case of each character by itself: a sigma at a word's end stays as any other, unlike toLowerCase's. */
export function lowercase(text: string): string {
  return (text.includes('Σ') ? text.replaceAll('Σ', 'σ') : text).toLowerCase();
}

/** Normal forms with the library's Unicode version: characters that it does not know stay unchanged and separate the rest. */
const normalForm = (form: 'NFC' | 'NFD' | 'NFKC' | 'NFKD'): Normalizer =>
  near((t) =>
    around(
      t,
      INERT,
      (rest) => rest.normalize(form),
      (character) => character,
    ),
  );

/** Changes the characters of a kind, and what is between them. */
function around(t: string, kind: number, between: (rest: string) => string, of: (character: string) => string): string {
  if (isAscii(t)) return t;
  const kinds = characterKinds();
  let out = '';
  let from = 0;
  for (let i = 0; i < t.length; ) {
    const code = t.codePointAt(i) as number;
    const next = i + unitsOf(code);
    if (kinds[code] & kind) {
      out += between(t.slice(from, i)) + of(t.slice(i, next));
      from = next;
    }
    i = next;
  }
  return from ? out + between(t.slice(from)) : between(t);
}

/** Leaves out every character of a kind. */
function without(kind: number): Normalizer {
  return near(
    (t) =>
      around(
        t,
        kind,
        (rest) => rest,
        () => '',
      ),
    (t) => (characterKinds()[t.codePointAt(0) as number] & kind) === 0,
  );
}

/** Control characters out, every kind of space as a plain one. */
function cleanText(t: string): string {
  if (!/[^ -~]/.test(t)) return t;
  const kinds = characterKinds();
  let out = '';
  let from = 0;
  for (let i = 0; i < t.length; ) {
    const code = t.codePointAt(i) as number;
    const next = i + unitsOf(code);
    const kind = kinds[code];
    if (kind & CONTROL || (kind & SPACE && code !== 0x20)) {
      out += t.slice(from, i);
      if (!(kind & CONTROL)) out += ' ';
      from = next;
    }
    i = next;
  }
  return from ? out + t.slice(from) : t;
}

const spaceIdeographs = (t: string): string =>
  around(
    t,
    IDEOGRAPH,
    (rest) => rest,
    (character) => ` ${character} `,
  );

function strip(t: string, left: boolean, right: boolean): string {
  const kinds = characterKinds();
  let [from, to] = [0, t.length];
  while (left && from < to && kinds[t.charCodeAt(from)] & SPACE) from++;
  while (right && to > from && kinds[t.charCodeAt(to - 1)] & SPACE) to--;
  return t.slice(from, to);
}

const nmtRemoves = (c: number): boolean =>
  (c >= 1 && c <= 8) || c === 0xb || (c >= 0xe && c <= 0x1f) || c === 0x7f || c === 0x8f || c === 0x9f;

/** sentencepiece's rules of neural machine translation: some control characters out, some others and marks as spaces. */
function nmt(t: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is removed
  const kept = t.replace(/[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]/g, '');
  return kept.replace(/[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g, ' ');
}

/** @param found begins and ends, one after the other */
export function replaceMatches(t: string, found: readonly number[], content: string): string {
  if (!found.length) return t;
  let out = '';
  let from = 0;
  for (let i = 0; i < found.length; i += 2) {
    out += t.slice(from, found[i]) + content;
    from = found[i + 1];
  }
  return out + t.slice(from);
}

/** The same, aligned: what stands for a match comes from its last character. */
function alignMatches(a: Aligned, found: readonly number[], content: string): Aligned {
  if (!found.length) return a;
  const out = new Builder(replaceMatches(a.text, found, content));
  let from = 0;
  for (let i = 0; i < found.length; i += 2) {
    out.keep(a, from, found[i]);
    from = found[i + 1];
    const last = from - 1;
    out.add(content.length, last < 0 ? -1 : a.from[last], last < 0 ? -1 : a.to[last]);
  }
  out.keep(a, from, a.text.length);
  return out.build();
}
