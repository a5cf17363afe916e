import { expect, test } from 'vitest';
import { TextTableBuilder } from '../../../data/dataset.ts';
import { TextMaker } from '../../../data/text/made-texts.ts';
import { Random } from '../../../math/random.ts';

function table(rows: readonly { title?: string; body: string }[]) {
  const builder = new TextTableBuilder();
  for (const [i, { title, body }] of rows.entries())
    builder.add(`d${i}`, title === undefined ? body : `${title} ${body}`, title);
  return builder.build();
}

/** Documents of 12 words of their own among common ones, under a title of two words. */
const named = Array.from({ length: 40 }, (_, i) => ({
  title: `alpha${i} beta${i}`,
  body: `The alpha${i} (${Array.from({ length: 9 }, (_, k) => `w${i}x${k}`).join(' ')}), is the beta${i} of all. It ends here for v${i}, u${i} and t${i}.`,
}));

const made = (rows: Parameters<typeof table>[0], seed = 0): string[][] => {
  const maker = new TextMaker(table(rows), Random.of(seed, 'texts'));
  return rows.map((_, d) => maker.of(d, 3));
};

test('a document gives a statement and keywords without the words of its title, and the title with keywords', () => {
  for (const [d, texts] of made(named).entries()) {
    expect(texts).toHaveLength(3);
    const { title, body } = named[d];
    const titled = texts.filter((t) => t.startsWith(title));
    expect(titled).toHaveLength(1);
    expect(titled[0].length).toBeGreaterThan(title.length + 1);
    for (const text of texts.filter((t) => t !== titled[0])) {
      expect(text).not.toMatch(new RegExp(`alpha${d}\\b|beta${d}\\b`));
      const words = text.split(' ');
      expect(words.length).toBeGreaterThanOrEqual(3);
      expect(words.length).toBeLessThanOrEqual(11);
      // In the order of the document.
      const places = words.map((w) => body.indexOf(w));
      expect(places).toEqual([...places].sort((a, b) => a - b));
      expect(Math.min(...places)).toBeGreaterThanOrEqual(0);
    }
  }
});

test('the same seed gives the same texts, another seed others', () => {
  expect(made(named)).toEqual(made(named));
  expect(made(named, 1)).not.toEqual(made(named));
});

test('keywords are rarely the words that most documents have', () => {
  const rows = Array.from({ length: 60 }, (_, i) => ({
    body: `these common words stand in every document beside q${i}a q${i}b q${i}c q${i}d q${i}e`,
  }));
  const maker = new TextMaker(table(rows), Random.of(0, 'texts'));
  const own = rows.flatMap((_, d) => maker.of(d, 3)).filter((t) => !/common|words|stand/.test(t));
  expect(own.length).toBeGreaterThan(60);
});

test('texts without spaces between their words are cut at words', () => {
  const rows = Array.from({ length: 12 }, (_, i) => ({
    title: `東京の駅${i}`,
    body: '利用者は検索エンジンを使って古い地図を探します。新しい路線図は毎年春に発行されます。',
  }));
  for (const [d, texts] of made(rows).entries()) {
    expect(texts.length).toBeGreaterThan(0);
    for (const text of texts)
      for (const part of text.replace(rows[d].title, '').trim().split(' ')) {
        expect(part.length).toBeLessThan(30);
        const words = Array.from(new Intl.Segmenter('ja', { granularity: 'word' }).segment(rows[d].body));
        expect(words.filter((w) => w.isWordLike && part.includes(w.segment)).length).toBeGreaterThan(0);
      }
  }
});

test('a document without a sentence gives its title, one without either nothing', () => {
  expect(made([{ title: 'Only a name', body: '' }, { body: 'two words' }, ...named]).slice(0, 2)).toEqual([
    ['Only a name'],
    [],
  ]);
});

test('no text is marks alone', () => {
  const bodies = ['| a | b | c |\n|---|---|---|\n| --- | *** | === |', '--- *** === +++ ... ??? !!!', '😀 😁 😂 🤣 😃'];
  const rows = Array.from({ length: 12 }, (_, i) => ({ title: i % 2 ? '***' : '', body: bodies[i % 3] }));
  const texts = [0, 1, 2, 3].flatMap((seed) => made(rows, seed).flat());
  expect(texts.length).toBeGreaterThan(0);
  for (const text of texts) expect(text).toMatch(/[\p{L}\p{N}]/u);
});

test('short sentences without spaces are cut at words, and spaces among them stay', () => {
  const bodies = [
    '猫が好き。犬も可愛い。',
    'npm install でパッケージを入れる方法を説明します。',
    'วันนี้อากาศดีมาก พรุ่งนี้ฝนจะตก ฉันไปทำงาน',
  ];
  const rows = Array.from({ length: 12 }, (_, i) => ({ body: bodies[i % 3] }));
  for (const [d, texts] of made(rows).entries()) {
    expect(texts.length).toBeGreaterThan(1);
    for (const text of texts) expect(text).not.toContain('npminstall');
    expect(texts.some((t) => t !== rows[d].body && rows[d].body.includes(t))).toBe(true);
  }
});

test('a long text without spaces is read within the memory of its words', () => {
  const sentence = '利用者は検索エンジンを使って古い地図を探し';
  expect(made([{ body: sentence.repeat(3200) }])[0].length).toBeGreaterThan(0);
});
