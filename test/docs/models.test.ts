/** @file The table of docs/models.md names what the code knows. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { vocabularyClasses } from '../../data/tokens/vocabulary-files.ts';
import { poolings } from '../../engine/expressions/pooling.ts';
import { activations } from '../../models/modules/activations.ts';

const row = (part: string): string =>
  readFileSync('docs/models.md', 'utf8')
    .split('\n')
    .find((line) => line.split('|')[1]?.trim() === part) ?? '';

test('every pooling and every activation function', () => {
  for (const name of poolings) expect(row('Pooling')).toContain(name);
  expect(row('Dense').split('|')[2].split(';')[0].trim()).toBe(Object.keys(activations).join(', '));
});

test('every class of tokenizers whose older files are read', () => {
  for (const [files, classes] of Object.entries(vocabularyClasses))
    expect(row('tokenizer')).toContain(
      `${files} of ${files === 'vocab.txt' ? 'the classes ' : ''}${classes.join(', ')}`,
    );
});
