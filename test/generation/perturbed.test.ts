/** @file Changed documents: what is negated and swapped, and which share of pairs a scorer gets right. */
import { expect, test } from 'vitest';
import type { Dataset } from '../../data/dataset.ts';
import { documentFrequencies, nameDistance, negated, replaced, swapped } from '../../generation/perturbed/perturb.ts';
import { robustnessSet, shareRight } from '../../generation/perturbed/robustness-set.ts';

test.each([
  ['This package provides a viewer.', 'This package does not provide a viewer.'],
  ['It is a tool that supports PNG.', 'It is not a tool that supports PNG.'],
  ['Libraries which provide sound', 'Libraries which do not provide sound'],
  ['This is not new, and supports PNG', 'This is not new, and does not support PNG'],
])('the first statement is negated: %s', (text, expected) => {
  expect(negated(text)).toBe(expected);
});

test('a text without a verb that is known is not negated', () => {
  expect(negated('fast sound library')).toBeUndefined();
});

const texts = [
  'foo viewer: displays images in the format PNG on a terminal',
  'fop printer: prints images in the format SVG on a plotter',
  'bar viewer: displays SVG on a plotter',
];
const frequency = documentFrequencies({ length: texts.length, text: (i) => texts[i] });

test('rare words that query and document share become words of the other document', () => {
  expect(frequency.get('images')).toBe(2);
  const changed = swapped({ query: 'show PNG on a terminal', text: texts[0], other: texts[1] }, frequency);
  // 'png' and 'terminal' stand in one document each; 'plotter' and 'svg' are the rarest known words of the other.
  expect(changed).toBe('foo viewer: displays images in the format Plotter on a svg'.replace('Plotter', 'Plotter'));
  expect(swapped({ query: 'nothing shared', text: texts[0], other: texts[1] }, frequency)).toBeUndefined();
});

test('words are replaced as wholes, in their case', () => {
  expect(replaced('C++ and c, Csound', 'c', 'go')).toBe('Go++ and go, Csound');
  expect(replaced('libfoo1 (libfoo1-dev)', 'libfoo1', 'libbar2')).toBe('libbar2 (libbar2-dev)');
  expect(replaced('lib-a-perl, C#', 'lib-a-perl', 'x')).toBe('x, C#');
});

test('edits between names', () => {
  expect(nameDistance('libfoo1', 'libfoo2', 2)).toBe(1);
  expect(nameDistance('gimp', 'grump', 2)).toBe(2);
  expect(nameDistance('gimp', 'inkscape', 2)).toBe(3);
});

test('a set has an item of each kind that can be made, and a share of them is right', async () => {
  const ids = ['a', 'b', 'c'];
  const titles = ['libfoo1', 'libfoo2', 'other'];
  const table = (all: readonly string[]) => ({
    ids,
    length: all.length,
    text: (i: number) => all[i],
    title: (i: number) => titles[i],
    indexOf: (id: string) => (ids.includes(id) ? ids.indexOf(id) : undefined),
    hash: '',
  });
  const documents = ['libfoo1 is a viewer of PNG images', 'libfoo2 is a viewer of SVG images', 'other thing'];
  const dataset = {
    documents: table(documents),
    queries: { ...table(['view PNG images', '', '']) },
    qrels: () => new Map([['a', new Map([['a', 1]])]]),
  } as unknown as Dataset;
  const items = robustnessSet(dataset, 'test', () => [1, 2], { seed: 4 });
  const of = (kind: string) => items.find((i) => i.kind === kind)?.other;
  expect(of('empty')).toBe('');
  expect(of('negation')).toBe('libfoo1 is not a viewer of PNG images');
  expect(of('near-name')).toBe(documents[1]);
  expect(of('swapped-name')).toBe('libfoo1 is a viewer of SVG images');
  // Words in common: a bag of words sees neither the negation nor the name.
  const share = await shareRight(items, async (pairs) =>
    pairs.map(({ query, document }) => query.split(' ').filter((w) => document.split(' ').includes(w)).length),
  );
  expect(share.empty).toEqual({ right: 1, of: 1 });
  expect(share.negation).toEqual({ right: 0.5, of: 1 });
  expect(share['near-name']).toEqual({ right: 1, of: 1 });
});
