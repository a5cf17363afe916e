/** @file Random texts of every script, with what is hard for tokenizers, and texts to train small tokenizers on. */
import type { Random } from '../../math/random.ts';

const words =
  "the quick brown fox jumps over lazy dogs while package managers install kernel modules oak pocket brass schöne Garten für Kinder Привет мир как дела 你好 世界 東京 日本語 テキスト かな 한국어 문장 안녕하세요 مرحبا بالعالم שלום עולם สวัสดี ภาษาไทย Ελληνικά Σίσυφος naïve café 123 4567 3.14 2024-01-01 foo_bar camelCase HTTPServer <b>bold</b> it's we'll don't I'm http://example.org/a?b=c&d=e 😀 👍🏽 résumé ﬁne Ⅷ ½ ㎏".split(
    ' ',
  );

/** Sentences of these words, the same each time. */
export function trainingTexts(): string[] {
  let state = 7;
  const next = (below: number): number => {
    state = (state * 1103515245 + 12345) & 0x7fffffff;
    return Math.floor((state / 0x80000000) * below);
  };
  return Array.from({ length: 600 }, () => {
    const sentence = Array.from({ length: 3 + next(14) }, () => words[next(words.length)]);
    return sentence.join(next(10) ? ' ' : '  ') + ['.', '', '!?', ''][next(4)];
  });
}

/** Blocks of characters with a weight. */
const blocks = [
  [0x20, 0x7e, 6],
  [0, 0x1f, 1],
  [0x80, 0x17f, 3],
  [0x300, 0x36f, 2],
  [0x370, 0x52f, 3],
  [0x590, 0x6ff, 3],
  [0x900, 0xdff, 1],
  [0xe00, 0xe7f, 1],
  [0x1100, 0x11ff, 2],
  [0xac00, 0xd7a3, 1],
  [0x1e00, 0x1fff, 2],
  [0x2000, 0x206f, 3],
  [0x20a0, 0x27bf, 2],
  [0x3000, 0x33ff, 3],
  [0x4e00, 0x9fff, 1],
  [0xa640, 0xa7ff, 1],
  [0xe000, 0xffff, 3],
  [0x10000, 0x1ffff, 2],
  [0x1f300, 0x1faff, 2],
  [0x1f1e6, 0x1f1ff, 1],
  [0x20000, 0x2ffff, 1],
  [0xe0000, 0xe01ef, 1],
  [0x378, 0x10ffff, 1],
] as const;

const hard = [
  ...['[CLS]', '[MASK]', '<mask>', '<s>', '</s>', '<|endoftext|>', '<q>', ' oak ', 'oak', 'BRASS', '[Q]   ', '<é>'],
  ...['  ', '     ', '\r\n', '\u2028', '\u0085', '\u00a0', '\u200d', '\ufffd', '\0', '\u180e', '\ufeff', '\u0378'],
  ...['👨‍👩‍👧', '🏳️‍🌈', 'ΟΔΥΣΣΕΎΣ Σ', 'İı', 'ß', 'ǅ', '각', '\u1100\u1161\u11a8', 'e\u0301\u0302', '\u0301'],
  ...['\u0345\u0301\u0327', 'ﬁ', '½', '\u3099か\u3099', 'ﾞｶﾞ', '㍿', '™', 'नमस्ते', 'กำ', 'שָׁלוֹם', '۝۱', '\u0600a'],
  ...["'s", "'S", "'ſ", "'LL", '``', "''", '1234567', '<0x0A>', '##a', '▁', 'Ġ', '_', 'a'.repeat(120)],
  ...['\u{11383}\u{113c9}', '\u{11935}\u{11930}', '\u{1e943}', '\u{105d2}\u0307'],
];

export function randomTexts(random: Random, count: number): string[] {
  const below = (n: number): number => Math.min(n - 1, Math.floor(random.uniform() * n));
  const bag = blocks.flatMap(([from, to, weight]) => Array.from({ length: weight }, () => [from, to] as const));
  return Array.from({ length: count }, () => {
    let text = '';
    for (let left = below(1 + below(24)); left >= 0; left--) {
      const kind = random.uniform();
      if (kind < 0.3) text += words[below(words.length)];
      else if (kind < 0.45) text += hard[below(hard.length)];
      else {
        const [from, to] = bag[below(bag.length)];
        const code = from + below(to - from + 1);
        text += String.fromCodePoint(code >= 0xd800 && code <= 0xdfff ? 0x41 : code);
      }
      if (below(3) === 0) text += ' ';
    }
    return text;
  });
}
