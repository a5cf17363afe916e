/** @file Tokenizers component by component, with the ids that Hugging Face's tokenizers 0.22 gives; no Python needed. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { readPipeline } from '../../data/tokens/pipeline.ts';
import { longestFirst } from '../../data/tokens/truncation.ts';
import { shared } from '../shared.ts';
import { bert, folderOf } from './folders.ts';

interface Case {
  name: string;
  json: Record<string, unknown>;
  texts: [string, number[]][];
  /** Both texts, ids, types. */
  pair?: [string, string, number[], number[]];
}

const cases: Case[] = JSON.parse(readFileSync('test/fixtures/tokenizers.json', 'utf8'));

/** transformers sets this one option of a file's pre-tokenizer by the configuration. */
const prefix = ({ pre_tokenizer }: Record<string, unknown>) => ({
  add_prefix_space: (pre_tokenizer as { add_prefix_space?: boolean } | undefined)?.add_prefix_space ?? false,
});

test.each(cases.map((c) => [c.name, c] as const))('%s', async (_, { json, texts, pair }) => {
  const tokenizer = await TextTokenizer.load(
    folderOf({ 'tokenizer.json': json, 'tokenizer_config.json': prefix(json) }),
  );
  const plain = readPipeline(json);
  for (const [text, ids] of texts) {
    expect(Array.from(tokenizer.encode(text, 1e6).ids), JSON.stringify(text)).toEqual(ids);
    if (!json.post_processor) expect(plain.encode(text)).toEqual(ids);
  }
  if (!pair) return;
  const found = tokenizer.encodePair(pair[0], pair[1]);
  expect([Array.from(found.ids), Array.from(found.typeIds)]).toEqual([pair[2], pair[3]]);
});

test.skipIf(!shared)('the cases of ../shared', async () => {
  const folder = join(shared as string, 'cases/tokenizers');
  const want: Record<string, [string, number[]][]> = JSON.parse(readFileSync(join(folder, 'want.json'), 'utf8'));
  let seen = 0;
  for (const name of ['bert-uncased', 'wp-nfd', 'wp-nfkc-strip', 'added', 'sp-xlmr', 'xlmr-like'])
    for (const [text, ids] of want[name]) {
      const tokenizer = await TextTokenizer.load(join(folder, name));
      expect(Array.from(tokenizer.encode(text, 24).ids), `${name}: ${text}`).toEqual(ids);
      seen++;
    }
  expect(seen).toBeGreaterThan(6);
  const roberta = await TextTokenizer.load(join(shared as string, 'cases/roberta-token-types/types1'));
  expect(new Set(roberta.encodePair('one text', 'another').typeIds)).toEqual(new Set([0]));
});

test.skipIf(!shared)('longest_first on a real tokenizer: the odd token goes to the longer text', async () => {
  const tokenizer = await TextTokenizer.load(join(shared as string, 'models/debian-cross-encoder'));
  const long = 'package manager '.repeat(900);
  const segments = (query: string, document: string): number[] => {
    const { typeIds } = tokenizer.encodePair(query, document, { maxLength: 512 });
    return [0, 1].map((type) => typeIds.filter((t) => t === type).length);
  };
  // With [CLS] and [SEP], and [SEP].
  expect(segments(long, long.slice(0, -200))).toEqual([255 + 2, 254 + 1]);
  expect(segments(long.slice(0, -200), long)).toEqual([254 + 2, 255 + 1]);
});

test('longest_first, token by token', async () => {
  const tokenizer = await TextTokenizer.load(folderOf(bert()));
  const a = (n: number): string => Array.from({ length: n }, () => 'a').join(' ');
  // tokenizers 0.22, at a room of 5: the first text's tokens and the second's.
  for (const [first, second, kept] of [
    [9, 8, [3, 2]],
    [8, 9, [2, 3]],
    [9, 9, [2, 3]],
    [2, 9, [2, 3]],
    [9, 1, [4, 1]],
    [5000, 4999, [3, 2]],
    [4999, 5000, [2, 3]],
    [1, 1, [1, 1]],
  ] as const) {
    const { ids, typeIds } = tokenizer.encodePair(a(first), a(second), { maxLength: 8 });
    const counts = [0, 1].map((type) => ids.filter((id, i) => id === 4 && typeIds[i] === type).length);
    expect(counts, `${first} and ${second}`).toEqual(kept);
    expect(longestFirst(Math.min(first, 5000), second, 5)).toEqual(kept);
  }
  const one = tokenizer.encodePair(a(9), a(2), { maxLength: 8, strategy: 'only_first' });
  expect(Array.from(one.typeIds)).toEqual([0, 0, 0, 0, 0, 1, 1, 1]);
  expect(() => tokenizer.encodePair(a(9), a(2), { maxLength: 8, strategy: 'only_second' })).toThrow(
    'a pair is 6 tokens too long, and the second text has 2',
  );
});

test('the side where a text is cut', async () => {
  const config = { truncation_side: 'left', padding_side: 'left', model_max_length: 4 };
  const tokenizer = await TextTokenizer.load(folderOf(bert({}, config)));
  expect(Array.from(tokenizer.encode('a b b a b').ids)).toEqual([2, 4, 5, 3]);
  expect(tokenizer.paddingSide).toBe('left');
  const long = `${'b '.repeat(50_000)}a b`;
  expect(Array.from(tokenizer.encode(long).ids)).toEqual([2, 4, 5, 3]);
});
