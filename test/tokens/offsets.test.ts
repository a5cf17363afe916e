/** @file Places of tokens in a text, in characters, and texts of ids: the three families of tokenizers, small. */
import { describe, expect, test } from 'vitest';
import { readPipeline } from '../../data/tokens/pipeline.ts';
import { alignedText, changed } from '../../data/tokens/text/aligned.ts';

const ids = (tokens: readonly string[]) => Object.fromEntries(tokens.map((t, i) => [t, i]));
const bytes = (text: string) => Array.from(text);
const bert = {
  normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, lowercase: true },
  pre_tokenizer: { type: 'BertPreTokenizer' },
  model: {
    type: 'WordPiece',
    unk_token: '[UNK]',
    continuing_subword_prefix: '##',
    max_input_chars_per_word: 100,
    vocab: ids(['[UNK]', 'cafe', '##s', '你', '!', "'"]),
  },
  decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
  added_tokens: [{ id: 6, content: '[Q]', special: true, lstrip: true }],
};
const roberta = {
  pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true },
  post_processor: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true },
  model: { type: 'BPE', vocab: ids([...bytes('Ġabð\u0141ĺĢ'), 'Ġa']), merges: ['Ġ a'] },
  decoder: { type: 'ByteLevel' },
};
const t5 = {
  normalizer: {
    type: 'Sequence',
    normalizers: [{ type: 'NFKC' }, { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' }],
  },
  pre_tokenizer: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
  model: {
    type: 'Unigram',
    unk_id: 0,
    vocab: [
      ['<unk>', 0],
      ['▁a', -1],
      ['▁', -3],
      ['b', -2],
      ['f', -2],
      ['i', -2],
    ],
  },
  decoder: { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
};

/** Each token with its begin and end. */
function places(json: object, text: string): [string, number, number][] {
  const { ids: found, spans, tokens } = readPipeline(json as never).locate(text);
  return found.map((_, i) => [tokens[i], spans[2 * i], spans[2 * i + 1]]);
}

describe('places', () => {
  test('WordPiece: accents, ideographs, marks, unknown words, an added token with the space before it', () => {
    expect(places(bert, 'Cafe\u0301s 你😀! [Q]')).toEqual([
      ['cafe', 0, 4],
      ['##s', 5, 6],
      ['你', 7, 8],
      ['[UNK]', 8, 9],
      ['!', 9, 10],
      [' [Q]', 10, 14],
    ]);
  });
  test('byte-level BPE: a space in front that is not in the text, spaces trimmed, the bytes of one character', () => {
    expect(places(roberta, 'a  ab').map(([, from, to]) => [from, to])).toEqual([
      [0, 1],
      [2, 2],
      [3, 4],
      [4, 5],
    ]);
    expect(
      new Set(
        places(roberta, 'a😀')
          .slice(1)
          .map(([, from, to]) => `${from} ${to}`),
      ),
    ).toEqual(new Set(['1 2']));
  });
  test('Unigram: runs of spaces, a ligature that becomes two letters', () => {
    expect(places(t5, 'a  ﬁb')).toEqual([
      ['▁a', 0, 1],
      ['▁', 2, 3],
      ['f', 3, 4],
      ['i', 3, 4],
      ['b', 4, 5],
    ]);
  });
  test('what a normal form joins from several marks is not known; the rest is', () => {
    const a = changed(alignedText('xa\u0301\u0323y'), (t) => t.normalize('NFC'));
    expect(a.text).toBe('x\u1ea1\u0301y');
    expect([...a.from]).toEqual([0, -1, -1, 4]);
    // A letter with more marks than are looked at together costs no more than others.
    const many = changed(alignedText('a\u0301\u0323'.repeat(1) + '\u0301\u0323'.repeat(2e4)), (t) =>
      t.normalize('NFD'),
    );
    expect(many.from[1]).toBe(-1);
  });
});

test('texts of ids', () => {
  const decoded = (json: object, text: string, skip = true) => {
    const pipeline = readPipeline(json as never);
    return pipeline.decode(pipeline.encode(text), skip);
  };
  expect(decoded(bert, 'Cafés! [Q]')).toBe('cafes!');
  expect(decoded(bert, 'Cafés! [Q]', false)).toBe('cafes! [Q]');
  expect(decoded(roberta, 'a 😀b')).toBe(' a 😀b');
  expect(decoded(t5, 'a  fib')).toBe('a fib');
  const fallback = [{ type: 'ByteFallback' }, { type: 'Fuse' }, { type: 'Strip', content: ' ', start: 1, stop: 0 }];
  const raw = { model: { type: 'WordLevel', unk_token: '?', vocab: ids([' a', '<0xC3>', '<0xA9>', '?']) } };
  const of = (decoder: object) => readPipeline({ ...raw, decoder } as never);
  expect(of({ type: 'Sequence', decoders: fallback }).decode([0, 1, 2, 99], true)).toBe('aé');
  expect(of({ type: 'Sequence', decoders: fallback }).decode([1, 2, 1], true)).toBe('\ufffd\ufffd\ufffd');
  expect(of({ type: 'BPEDecoder', suffix: 'a' }).decode([0, 0], true)).toBe('   ');
  expect(() => of({ type: 'CTC' }).decode([0], true)).toThrow(/its decoder "CTC" is not supported/);
});
