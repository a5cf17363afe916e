/** @file What the files next to tokenizer.json change, what is refused, and hostile files and texts. */
import { expect, test } from 'vitest';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { refused } from '../hostile/refused.ts';
import { bert, folderOf } from './folders.ts';

const ids = async (files: Record<string, unknown>, text: string): Promise<number[]> =>
  Array.from((await TextTokenizer.load(folderOf(files))).encode(text, 100).ids);

test('a class of transformers sets what its configuration says', async () => {
  // Ids by transformers 4.57: A as itself or in lower case, the accent gone or not.
  expect(await ids(bert({}, { tokenizer_class: 'BertTokenizer' }), 'A é')).toEqual([2, 4, 8, 3]);
  expect(await ids(bert({}, { tokenizer_class: 'BertTokenizer', do_lower_case: false }), 'A é')).toEqual([2, 6, 7, 3]);
  expect(await ids(bert({}, { tokenizer_class: 'BertTokenizerFast', strip_accents: false }), 'A é')).toEqual([
    2, 4, 7, 3,
  ]);
  expect(await ids(bert({}, { do_lower_case: false }), 'A é')).toEqual([2, 4, 8, 3]);
  const { 'tokenizer.json': json } = bert({
    normalizer: { ...bert()['tokenizer.json'].normalizer, lowercase: false },
  });
  expect(await ids({ 'tokenizer.json': json, 'config.json': { model_type: 'bert' } }, 'A é')).toEqual([2, 4, 8, 3]);
});

test('added tokens of the configuration and of special_tokens_map.json', async () => {
  const decoder = { 9: { content: '[Q]', special: true, normalized: false } };
  expect(await ids(bert({}, { added_tokens_decoder: decoder }), 'a[Q]b')).toEqual([2, 4, 9, 5, 3]);
  const map = { 'special_tokens_map.json': { additional_special_tokens: ['[D]'], pad_token: 'b' } };
  expect(await ids({ ...bert(), ...map }, 'a[D]b')).toEqual([2, 4, 10 - 1, 5, 3]);
  expect((await TextTokenizer.load(folderOf({ ...bert(), ...map }))).padId).toBe(5);
  expect(await ids({ ...bert(), 'added_tokens.json': { '[E]': 9 } }, 'a[E] b')).toEqual([2, 4, 9, 5, 3]);
});

test('the longest sequence, where there is one', async () => {
  const of = async (model_max_length: unknown) =>
    (await TextTokenizer.load(folderOf(bert({}, { model_max_length })))).modelMaxLength;
  expect(await of(512)).toBe(512);
  expect(await of(1e30)).toBeUndefined();
  expect(await of(null)).toBeUndefined();
  for (const bad of ['512', -1, 0, 2.5, true])
    await refused(() => of(bad), /model_max_length of tokenizer_config.json is .*, not a whole number of tokens/);
});

test('older vocabulary files', async () => {
  const vocabTxt = '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n##b\n';
  const config = { 'tokenizer_config.json': { tokenizer_class: 'BertTokenizer' } };
  expect(await ids({ 'vocab.txt': vocabTxt, ...config }, 'AB [MASK] x')).toEqual([2, 5, 6, 4, 1, 3]);
  const vocab = { '<s>': 0, '<pad>': 1, '</s>': 2, '<unk>': 3, '<mask>': 4, a: 5, b: 6, Ġ: 7, ab: 8, Ġab: 9 };
  const roberta = {
    'vocab.json': vocab,
    'merges.txt': '#version: 0.2\na b\nĠ ab\n',
    'tokenizer_config.json': { tokenizer_class: 'RobertaTokenizer' },
  };
  expect(await ids(roberta, 'ab ab <mask>a')).toEqual([0, 8, 9, 4, 5, 2]);
  const pair = (await TextTokenizer.load(folderOf(roberta))).encodePair('a', 'b');
  expect([Array.from(pair.ids), new Set(pair.typeIds)]).toEqual([[0, 5, 2, 2, 6, 2], new Set([0])]);
  // MPNet's pair has two separators, and its own special tokens.
  const mpnet = { 'vocab.txt': '<s>\n<pad>\n</s>\n[UNK]\n<mask>\na\n##b\n', 'config.json': { model_type: 'mpnet' } };
  expect(await ids(mpnet, 'AB <mask> x')).toEqual([0, 5, 6, 4, 3, 2]);
  const twice = (await TextTokenizer.load(folderOf(mpnet))).encodePair('a', 'a');
  expect([[...twice.ids], [...twice.typeIds]]).toEqual([
    [0, 5, 2, 2, 5, 2],
    [0, 0, 0, 0, 1, 1],
  ]);
  const qwen = {
    'vocab.json': { '<|endoftext|>': 0, a: 1, b: 2, Ġ: 3, ab: 4, Ġab: 5, Ã: 6, '©': 7, 'Ã©': 8, 1: 9 },
    'merges.txt': '#version: 0.2\na b\nĠ ab\nÃ ©\n',
    'tokenizer_config.json': { tokenizer_class: 'Qwen2Tokenizer' },
  };
  expect(await ids(qwen, 'ab ab \u00e9 11<|endoftext|>')).toEqual([4, 5, 3, 8, 3, 9, 9, 0]);
  await refused(
    () => TextTokenizer.load(folderOf({ 'vocab.txt': vocabTxt })),
    /nothing says which class reads its older files \(tokenizer_class of tokenizer_config.json, model_type/,
  );
  await refused(
    () => TextTokenizer.load(folderOf({ ...roberta, 'tokenizer_config.json': { tokenizer_class: 'XLMTokenizer' } })),
    /older files of the class "XLMTokenizer" are not read; save its fast tokenizer there/,
  );
  await refused(() => TextTokenizer.load(folderOf({})), /has no tokenizer.json; save the model's fast tokenizer/);
  for (const name of ['sentencepiece.bpe.model', 'spiece.model', 'tokenizer.model', 'spm.model', 'tekken.json'])
    await refused(
      () => TextTokenizer.load(folderOf({ [name]: 'x' })),
      new RegExp(
        `has no tokenizer.json, and its ${name} is not read; save the model's fast tokenizer there with transformers`,
      ),
    );
});

test.each([
  ['normalizer', { type: 'Reverse' }, /its normalizer "Reverse" is not supported \(BertNormalizer, .*\)/],
  ['normalizer', { type: 'constructor' }, /its normalizer "constructor" is not supported/],
  ['normalizer', { type: 'Precompiled', precompiled_charsmap: null }, /has no precompiled_charsmap/],
  [
    'normalizer',
    { type: 'Precompiled', precompiled_charsmap: 'AAAB' },
    /precompiled_charsmap of its normalizer is cut/,
  ],
  [
    'normalizer',
    { type: 'Strip', strip_left: 'yes', strip_right: true },
    /strip_left of Strip is "yes", not true or false/,
  ],
  ['pre_tokenizer', { type: 'Jieba' }, /its pre-tokenizer "Jieba" is not supported/],
  ['pre_tokenizer', { type: 'Punctuation', behavior: 'Doubled' }, /behavior "Doubled" of Punctuation is not supported/],
  [
    'pre_tokenizer',
    { type: 'Metaspace', replacement: '_', prepend_scheme: 'last' },
    /prepend_scheme "last" of Metaspace/,
  ],
  [
    'pre_tokenizer',
    { type: 'Split', pattern: { Regex: '(a)\\k<x>' }, behavior: 'Removed', invert: false },
    /expression "\(a\).* of Split is not supported/,
  ],
  ['pre_tokenizer', { type: 'Split', pattern: { Regex: '\\X' }, behavior: 'Removed', invert: false }, /the escape \\X/],
  [
    'pre_tokenizer',
    { type: 'Split', pattern: { Regex: '(?i:ss)' }, behavior: 'Removed', invert: false },
    /"ss" in either case/,
  ],
  ['pre_tokenizer', { type: 'FixedLength', length: -5 }, /length of FixedLength is -5/],
  ['model', { type: 'Neural' }, /its model "Neural" is not supported/],
  [
    'model',
    { type: 'BPE', vocab: { a: 0 }, merges: [], dropout: 0.1 },
    /dropout of its model BPE draws the tokens by chance/,
  ],
  [
    'model',
    { type: 'BPE', vocab: { a: 0 }, merges: ['a b'] },
    /merges of BPE name "b", which is not in its vocabulary/,
  ],
  ['model', { type: 'BPE', vocab: { a: -1 }, merges: [] }, /the id of "a" in the vocabulary of BPE is -1/],
  ['model', { type: 'Unigram', unk_id: 7, vocab: [['a', 0]] }, /unk_id of Unigram is 7, not an id of its vocabulary/],
  ['model', { type: 'Unigram', vocab: [['a', 0]] }, /Unigram has no token for unknown words/],
  [
    'model',
    {
      type: 'WordPiece',
      vocab: { '[UNK]': 0, a: 2 ** 31 },
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
    },
    /is 2147483648, not a whole number from 0/,
  ],
  [
    'model',
    {
      type: 'WordPiece',
      vocab: { '[UNK]': 0 },
      unk_token: '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 1e308,
    },
    /max_input_chars_per_word of WordPiece is 1e\+308/,
  ],
  [
    'added_tokens',
    [{ id: 2 ** 31, content: '[Q]' }],
    /the id of its added token .* is not a whole number from 0 to 16777215/,
  ],
  ['added_tokens', [{ id: -4, content: '[Q]' }], /is not a whole number/],
  ['added_tokens', { content: '[Q]' }, /added_tokens is .*, not a list/],
  ['post_processor', { type: 'Weaving' }, /its post-processor "Weaving" is not supported/],
  [
    'post_processor',
    { type: 'BertProcessing', cls: ['[CLS]', 400], sep: ['[SEP]', 3] },
    /puts the token 400 around texts/,
  ],
] as const)('%s %j is refused in a sentence', async (part, value, message) => {
  await refused(() => TextTokenizer.load(folderOf(bert({ [part]: value }))), message);
});

test('broken and hostile files', async () => {
  await refused(
    () => TextTokenizer.load(folderOf({ 'tokenizer.json': '{"model":' })),
    /tokenizer.json is not a JSON object/,
  );
  await refused(
    () => TextTokenizer.load(folderOf({ ...bert(), 'tokenizer_config.json': '[]' })),
    /is not a JSON object/,
  );
  const deep = `{"normalizer":${'{"type":"Sequence","normalizers":['.repeat(20_000)}${']}'.repeat(20_000)}}`;
  await refused(() => TextTokenizer.load(folderOf({ 'tokenizer.json': deep })), /tokenizer/);
  const decoder = { '2147483648': { content: '[Q]' } };
  await refused(
    () => TextTokenizer.load(folderOf(bert({}, { added_tokens_decoder: decoder }))),
    /added_tokens_decoder names the id "2147483648"/,
  );
});

test('texts of many megabytes take time in proportion, and no more than they need', async () => {
  const tokenizer = await TextTokenizer.load(folderOf(bert()));
  for (const text of ['a b '.repeat(1e6), 'a'.repeat(4e6), ' '.repeat(4e6), '\u0301'.repeat(2e6)]) {
    const started = performance.now();
    expect(tokenizer.encode(text, 64).ids.length).toBeLessThanOrEqual(64);
    expect(performance.now() - started).toBeLessThan(5000);
  }
});

test('lower case is put in front of the tokenizer that the class and its options make', async () => {
  const vocab = '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nA\n';
  const cased = { tokenizer_class: 'BertTokenizer', do_lower_case: false };
  const old = folderOf({ 'vocab.txt': vocab, 'tokenizer_config.json': cased });
  const file = folderOf(bert({}, cased));
  for (const [folder, lower, upper] of [
    [old, 5, 6],
    [file, 4, 6],
  ] as const) {
    expect((await TextTokenizer.load(folder)).plain('A')).toEqual([upper]);
    const lowered = await TextTokenizer.load(folder, { lowerCase: true });
    expect(lowered.plain('A')).toEqual([lower]);
    expect(lowered.hash).not.toBe((await TextTokenizer.load(folder)).hash);
  }
});
