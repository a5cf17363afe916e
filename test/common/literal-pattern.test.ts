/** @file Texts in regular expressions: every printable character of ASCII matches itself, with every flag. */
import { expect, test } from 'vitest';
import { literalPattern } from '../../common/literal-pattern.ts';
import { readPattern } from '../../data/tokens/text/regex.ts';

const all = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i));

test.each(['', 'u', 'v'])("with the flag '%s'", (flag) => {
  for (const text of [...all, all.join(''), 'libhtml-tagfilter-perl', 'C#']) {
    const found = new RegExp(literalPattern(text), flag).exec(`\n${text}\n`);
    expect(found?.[0]).toBe(text);
  }
});

test('the literal pattern of a tokenizer may be a hyphen', () => {
  expect('a-b'.replace(readPattern({ String: '-' }, 'the normalizer'), ' ')).toBe('a b');
});
