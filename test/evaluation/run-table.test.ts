/** @file What the user had is compared on dev, and on test where the queries of dev alone are generated. */
import { expect, test } from 'vitest';
import type { Dataset } from '../../data/dataset.ts';
import { RunTable, type RunTableJob } from '../../evaluation/runs/run-table.ts';

const table = (splits: string[], generated?: string[], dev: string | null = 'dev') =>
  new RunTable({
    dataset: {
      splits,
      generated,
      queries: { indexOf: () => 0 },
      qrels: () => new Map(),
    } as unknown as Dataset,
    config: { data: { splits: { train: 'train', dev, test: 'test' } }, evaluate: { depth: 10 } },
  } as unknown as RunTableJob);

test.each([
  ['dev and test', ['dev', 'test'], undefined, 'dev', 'dev'],
  ['no dev', ['test'], undefined, 'test', undefined],
  ['dev generated, test of people', ['dev', 'test'], ['dev', 'train'], 'test', 'dev'],
  ['both generated', ['dev', 'test'], ['dev', 'test', 'train'], 'dev', 'dev'],
])('%s', (_, splits, generated, decides, dev) => {
  const made = table(splits, generated);
  expect(made.before.split).toBe(decides);
  expect(made.chooses).toBe(decides === 'test' ? undefined : decides);
  expect(made.dev).toBe(dev);
});

test('a config without dev, or with test as dev, has none', () => {
  expect(table(['dev', 'test'], undefined, null).dev).toBeUndefined();
  expect(table(['test'], undefined, 'test').dev).toBeUndefined();
});
