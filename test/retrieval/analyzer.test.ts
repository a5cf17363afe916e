/** @file How texts are cut into terms, and which analyzer a corpus gets. */
import { describe, expect, test } from 'vitest';
import { analyzer, chooseAnalyzer } from '../../retrieval/analyzer.ts';
import { bm25 } from '../../retrieval/bm25.ts';

const table = (texts: string[]) => ({ length: texts.length, text: (i: number) => texts[i] });

describe('terms', () => {
  test('words: lower case, stems, stopwords; combining marks stay in their word', () => {
    expect(analyzer({ kind: 'words', stemmer: 'english' }).terms('The runs of 2 Cats_x')).toEqual(['run', 'cats_x']);
    expect(analyzer({ kind: 'words', stemmer: null }).terms('हिन्दी में')).toEqual(['हिन्दी', 'में']);
    expect(analyzer({ kind: 'words', stemmer: null }).terms('cafe\u0301 ＡＢＣ')).toEqual(['café', 'abc']);
  });
  test('bigrams: pairs in runs of Han, kana and Hangul, words elsewhere, one character alone as it is', () => {
    const { terms } = analyzer({ kind: 'bigrams', stemmer: null });
    expect(terms('東京都のPython入門 茶')).toEqual(['東京', '京都', '都の', 'python', '入門', '茶']);
    expect(terms('コーヒー')).toEqual(['コー', 'ーヒ', 'ヒー']);
    expect(terms('한국어 검색')).toEqual(['한국', '국어', '검색']);
  });
  test('segments: Thai words', () => {
    const terms = analyzer({ kind: 'segments', stemmer: null }).terms('ภาษาไทยง่าย');
    expect(terms.length).toBeGreaterThan(1);
    expect(terms.join('')).toBe('ภาษาไทยง่าย');
  });
});

describe('the analyzer that a corpus gets', () => {
  const rows: [string, string, { kind: string; stemmer: string | null }][] = [
    ['Japanese', '東京は日本の首都であり、世界で最も人口の多い都市の一つです。', { kind: 'bigrams', stemmer: null }],
    ['Chinese', '北京是中华人民共和国的首都，也是全国的政治中心和文化中心。', { kind: 'bigrams', stemmer: null }],
    ['Thai', 'กรุงเทพมหานครเป็นเมืองหลวงและนครที่มีประชากรมากที่สุดของประเทศไทย', { kind: 'segments', stemmer: null }],
    [
      'German',
      'Die Stadt liegt an einem breiten Fluss und ist seit vielen Jahrhunderten ein wichtiger Ort für den Handel zwischen den Ländern.',
      { kind: 'words', stemmer: 'german' },
    ],
    [
      'French',
      'La ville est située au bord du fleuve et elle est depuis plusieurs siècles un lieu important pour le commerce entre les pays.',
      { kind: 'words', stemmer: 'french' },
    ],
    [
      'Russian',
      'Город расположен на берегу большой реки и уже много веков остаётся важным местом для торговли между странами.',
      { kind: 'words', stemmer: 'russian' },
    ],
    [
      'English',
      'The town lies on a wide river and has been for many centuries an important place for the trade between the countries.',
      { kind: 'words', stemmer: 'english' },
    ],
    [
      'Polish, which has no stemmer here',
      'Miasto leży nad szeroką rzeką i od wielu stuleci jest ważnym miejscem handlu między krajami oraz ośrodkiem kultury.',
      { kind: 'words', stemmer: null },
    ],
  ];
  test.each(rows)('%s', (_, text, spec) => {
    expect(chooseAnalyzer(table(Array.from({ length: 60 }, () => text))).spec).toEqual(spec);
  });
  test('too little Latin text is taken for English, and that is said', () => {
    expect(chooseAnalyzer(table(['red fruit']))).toEqual({
      spec: { kind: 'words', stemmer: 'english' },
      reason: 'too little text to tell the language, in Latin letters',
    });
  });
});

test('a Japanese query finds its document', async () => {
  const index = await bm25(table(['東京の天気予報です', '大阪の美味しい料理店', '京都の古い寺院']));
  expect(index.analyzer.spec.kind).toBe('bigrams');
  expect([...index.search('大阪料理', 3).indices][0]).toBe(1);
});

test('statistics weigh a query as the index does', async () => {
  const index = await bm25(table(['cats ran', 'a cat and a dog', 'birds']), { analyzer: 'english', k1: 1.2, b: 0.75 });
  const s = index.statistics();
  const df = s.frequencies[s.terms.indexOf('cat')];
  const idf = Math.log1p((s.documents - df + 0.5) / (df + 0.5));
  const saturation = s.k1 * (1 - s.b + (s.b * 2) / s.averageLength);
  expect(index.search('cat', 1).scores[0]).toBeCloseTo(idf / (1 + saturation), 6);
});

test.each([
  ['words', 'english', 'Running ΟΔΟΣ e\u0301te\u0301 ﬁnal_words'],
  ['bigrams', null, '東京の天気予報です。大阪ＡＢＣの料理。'],
  ['segments', null, 'ภาษาไทยง่ายนิดเดียว and words'],
] as const)('a long text of %s is read in parts that have the terms of the whole', (kind, stemmer, sentence) => {
  const { terms, each } = analyzer({ kind, stemmer });
  const separator = kind === 'bigrams' ? '' : ' ';
  const sentences = Array.from({ length: 6000 }, (_, i) => `${sentence}${separator}${i}x${i % 7 ? '' : '\n'}`);
  const text = sentences.join(separator);
  expect(text.length).toBeGreaterThan(2 * (1 << 16));
  const found: string[] = [];
  each(text, (term) => found.push(term));
  expect(found).toEqual(terms(text));
  // The end of a sentence and the start of the next are one run of Japanese text: these are cut at their full stops.
  const pieces = kind === 'bigrams' ? text.split(/(?<=[。\n])/) : sentences;
  expect(found).toEqual(pieces.flatMap((s) => terms(s)));
});
