import { expect, test } from 'vitest';
import { makeWorld } from '../../demo-world/world.ts';

const size = { documents: 300, train: 100, dev: 20, test: 60 };

test('a seed makes one world', async () => {
  const four = await makeWorld({ seed: 4, ...size });
  expect(await makeWorld({ seed: 4, ...size })).toEqual(four);
  expect((await makeWorld({ seed: 5, ...size })).documents).not.toEqual(four.documents);
});

test('every search has a matching listing and none occurs twice', async () => {
  const world = await makeWorld({ seed: 1, ...size });
  const { train, dev, test } = world.qrels;
  expect([train.size, dev.size, test.size]).toEqual([100, 20, 60]);
  for (const qrels of [train, dev, test])
    for (const relevant of qrels.values()) expect(relevant.length).toBeGreaterThan(0);
  for (const relevant of train.values()) expect(relevant).toHaveLength(1);
  expect(new Set(world.queries.map((q) => q.text)).size).toBe(180);
});

test('some listings hold the same words and only some of them answer a search', async () => {
  const world = await makeWorld({ seed: 1, ...size });
  const bag = (text: string): string => text.split(/[ ,]+/).sort().join(' ');
  const twins = new Map<string, string[]>();
  for (const { id, text } of world.documents) twins.set(bag(text), [...(twins.get(bag(text)) ?? []), id]);
  const told = [...world.qrels.test.values()].filter((relevant) =>
    relevant.some((d) => {
      const text = world.documents.find((w) => w.id === d)?.text ?? '';
      return twins.get(bag(text))?.some((twin) => !relevant.includes(twin));
    }),
  );
  expect(told.length).toBeGreaterThan(20);
});
