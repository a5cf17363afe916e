/** @file Graphemes of long texts, as the normalizer Precompiled looks them up: exact, in time that grows with the length. */
import { expect, test } from 'vitest';
import { graphemes, readCharsmap } from '../../data/tokens/text/charsmap.ts';
import { Random } from '../../math/random.ts';

const segmenter = new Intl.Segmenter('en', { granularity: 'grapheme' });

test('block by block they are those of the whole text', () => {
  const random = Random.of(5, 'graphemes');
  const parts = [
    '한',
    '각',
    '각',
    'é',
    '👍🏽',
    '👨‍👩‍👧',
    '🇩🇪',
    '🇫',
    '\r\n',
    'क्षि',
    'a',
    '\u0301',
    '\ud83d',
    'ก็',
    '𝒳',
    '🏽',
  ];
  for (let round = 0; round < 20; round++) {
    const text = Array.from({ length: 1500 }, () => parts[random.integer(parts.length)]).join('');
    expect([...graphemes(text)]).toEqual(Array.from(segmenter.segment(text), (s) => s.segment));
  }
  for (const text of [
    `a${'\u0301'.repeat(5000)}b`,
    '🇩'.repeat(3001),
    `${'x'.repeat(1023)}👍🏽`,
    `${'x'.repeat(1022)}👍🏽`,
    '',
    'é',
  ])
    expect([...graphemes(text)]).toEqual(Array.from(segmenter.segment(text), (s) => s.segment));
});

test('a text of a million characters without a space takes seconds', () => {
  // A table without entries: one unit of a trie that leads nowhere.
  const apply = readCharsmap(Buffer.from([4, 0, 0, 0, 0, 0, 0, 0]).toString('base64'));
  const text = '한국어조선말'.repeat(170_000);
  const started = performance.now();
  expect(apply(text)).toBe(text);
  // Segmented at once, a fifth of it took 80 s.
  expect(performance.now() - started).toBeLessThan(20_000);
});
