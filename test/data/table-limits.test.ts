/** @file A table of texts that is full says so, in place of a fault of Node's buffers and maps. */
import { expect, test } from 'vitest';
import { TextTableBuilder } from '../../data/dataset.ts';

const filled = (most: { bytes: number; ids: number }, n: number) => {
  const builder = new TextTableBuilder({ most });
  for (let i = 0; i < n; i++) builder.add(`d${i}`, 'x'.repeat(1000));
  return builder;
};

test('texts and ids beyond what a table holds are refused with the remedy; up to there they are kept', () => {
  const table = filled({ bytes: 100_000, ids: 1000 }, 100).build();
  expect(table.length).toBe(100);
  expect(table.text(99)).toBe('x'.repeat(1000));
  expect(() => filled({ bytes: 100_000, ids: 1000 }, 101)).toThrow(
    /the texts of one table are more than .* GiB of text: .*split the data into several folders, see docs\/scale.md/,
  );
  expect(() => filled({ bytes: 2 ** 20, ids: 10 }, 11)).toThrow(/more than 10 ids/);
  try {
    filled({ bytes: 2 ** 20, ids: 10 }, 11);
  } catch (error) {
    expect(error).toMatchObject({ code: 'data.too-large', exitCode: 2 });
  }
});
