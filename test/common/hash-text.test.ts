/** @file Hashes of long texts, which are read in parts, are those of all their bytes. */
import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { hashParts, hashText } from '../../common/files.ts';
import { beginningOf } from '../../evaluation/systems/model-cost.ts';

const whole = (text: string): string => createHash('sha256').update(text).digest('hex');

test.each([
  ['empty', ''],
  ['short', 'a \ud83d\ude00'],
  // A pair stands across each place where a part could end.
  ['pairs at even places', '\ud83d\ude00'.repeat(40_000)],
  ['pairs at odd places', `a${'\ud83d\ude00'.repeat(40_000)}`],
  ['halves of pairs', `\ude00${'\ude00\ud83d'.repeat(40_000)}\ud83d`],
  ['wide', 'ö日'.repeat(50_000)],
])('%s', (_, text) => {
  const hash = createHash('sha256');
  hashText(hash, text);
  expect(hash.digest('hex')).toBe(whole(text));
  expect(hashParts(text, 'b')).toBe(whole(`${Buffer.byteLength(text)}:${text.toWellFormed()}1:b`));
});

test('the part of a text that a timed model is sent', () => {
  expect(beginningOf('short')).toBe('short');
  const long = `${'x'.repeat((1 << 20) - 1)}\ud83d\ude00 more`;
  expect(beginningOf(long)).toBe(long.slice(0, 1 << 20));
});
