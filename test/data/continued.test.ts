/** @file Old and new data as one set: which of its splits hold generated queries alone. */
import { expect, test } from 'vitest';
import { continuedDataset } from '../../data/continued/continued.ts';
import { type Dataset, type Qrels, TextTableBuilder } from '../../data/dataset.ts';

const splits = { train: 'train', dev: 'dev', test: 'test' };
/** Queries q0, q1 and q2 of train, dev and test, each with a prefix. */
function dataset(name: string, generated?: readonly string[]): Dataset {
  const [documents, queries] = [new TextTableBuilder(), new TextTableBuilder()];
  const qrels = new Map<string, Qrels>();
  for (const [i, split] of Object.keys(splits).entries()) {
    documents.add(`${name}d${i}`, `text ${name} ${i}`);
    queries.add(`${name}q${i}`, `query ${name} ${i}`);
    qrels.set(split, new Map([[`${name}q${i}`, new Map([[`${name}d${i}`, 1]])]]));
  }
  return {
    name,
    documents: documents.build(),
    queries: queries.build(),
    splits: [...qrels.keys()],
    qrels: (split) => qrels.get(split) as Qrels,
    ...(generated && { generated }),
  };
}
const generatedIn = (old: Dataset, fresh: Dataset) =>
  continuedDataset(old, fresh, { splits, replay: 0.5, unlabelled: true, seed: 0 }).generated;

test('a split of both is generated where neither has a query of people', () => {
  const all = ['dev', 'test', 'train'];
  expect(generatedIn(dataset('a', all), dataset('b', all))?.slice().sort()).toEqual(
    ['dev', 'new dev', 'new test', 'old dev', 'old test', 'test', 'train'].sort(),
  );
  expect(generatedIn(dataset('a', all), dataset('b'))).toEqual(['old test', 'old dev']);
  // The new test split is the test split.
  expect(generatedIn(dataset('a'), dataset('b', all))).toEqual(['new test', 'new dev', 'test']);
  expect(generatedIn(dataset('a'), dataset('b'))).toBeUndefined();
});
