/** @file Oniguruma's regular expressions, in which Split and Replace are written, as JavaScript's. */
import { literalPattern } from '../../../common/literal-pattern.ts';
import { fieldsOf, malformed, shown, unsupported } from '../base/fields.ts';
import { characterKinds, UNASSIGNED, unitsOf } from '../base/unicode.ts';
import { Translator } from './regex-translate.ts';

const cache = new Map<string, RegExp>();

/** @throws TokenizerRefusal where the expression uses what is not translated */
export function readRegex(source: string, what: string): RegExp {
  const known = cache.get(source);
  if (known) return known;
  const fail = (why: string): never => {
    throw unsupported(`the expression ${shown(source)} of ${what} is not supported (${why})`);
  };
  const translated = new Translator(source, fail).translate();
  let regex: RegExp | undefined;
  try {
    regex = new RegExp(translated, 'gv');
  } catch (e) {
    fail((e as Error).message);
  }
  cache.set(source, regex as RegExp);
  return regex as RegExp;
}

/** A pattern of tokenizer.json: { String } or { Regex }. */
export function readPattern(value: unknown, what: string): RegExp {
  const fields = fieldsOf(value, `pattern of ${what}`);
  if (typeof fields.String === 'string') return new RegExp(literalPattern(fields.String.toWellFormed()), 'gv');
  if (typeof fields.Regex === 'string') return readRegex(fields.Regex.toWellFormed(), what);
  throw malformed(`pattern of ${what} is ${shown(value)}, neither String nor Regex`);
}

/**
 * Begins and ends of an expression's matches, one after the other.
 *
 * Characters newer than Oniguruma's Unicode are looked at as unassigned ones, which they are there. As in the library, a
 * match without characters does not follow another match at once.
 */
export function matches(regex: RegExp, text: string): number[] {
  const seen = hideNew(text);
  const found: number[] = [];
  let lastEnd = -1;
  regex.lastIndex = 0;
  for (let match = regex.exec(seen); match; match = regex.exec(seen)) {
    const end = match.index + match[0].length;
    const empty = !match[0].length;
    if (!empty || end !== lastEnd) found.push(match.index, end);
    lastEnd = end;
    if (empty) regex.lastIndex = end + (end < seen.length ? unitsOf(seen.codePointAt(end) as number) : 1);
  }
  return found;
}

function hideNew(text: string): string {
  if (!/[^\0-\x7f]/.test(text)) return text;
  const kinds = characterKinds();
  let out = '';
  let from = 0;
  for (let i = 0; i < text.length; ) {
    const code = text.codePointAt(i) as number;
    const next = i + unitsOf(code);
    if (kinds[code] & UNASSIGNED) {
      out += text.slice(from, i) + placeholder(code);
      from = next;
    }
    i = next;
  }
  return from ? out + text.slice(from) : text;
}

const placeholders = new Map<number, string>();

/** The nearest code point of as many units that is unassigned in this JavaScript too: ranges hold it where they hold the other. */
function placeholder(code: number): string {
  let found = placeholders.get(code);
  for (let away = 0; found === undefined; away++)
    for (const near of [code - away, code + away])
      if (unitsOf(near) === unitsOf(code) && /^\p{Cn}$/u.test(String.fromCodePoint(near)))
        found ??= String.fromCodePoint(near);
  placeholders.set(code, found);
  return found;
}
