/** @file The report: hostile texts stay texts, nothing is loaded, and it fits a screen and a phone in both themes. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { compareEvaluations } from '../../evaluation/metrics/compare.ts';
import type { RunEvaluation } from '../../evaluation/metrics/evaluate.ts';
import type { Figures } from '../../evaluation/report/figures.ts';
import { renderHtml } from '../../evaluation/report/html.ts';
import { renderMarkdown } from '../../evaluation/report/markdown.ts';
import { escapeText, html } from '../../evaluation/report/markup.ts';

const values = (f: (i: number) => number): number[] => Array.from({ length: 60 }, (_, i) => f(i));
const evaluation = (x: number[]): RunEvaluation => ({
  queryIds: x.map((_, i) => `q${i}`),
  perQuery: { 'ndcg@10': Float64Array.from(x), 'mrr@10': Float64Array.from(x) },
  means: {},
});
const [a, b] = [values((i) => (i % 7) / 7), values((i) => (i % 5) / 4)];

/** Every part filled in; `name` stands wherever a text from outside can. */
function figures(name: string): Figures {
  const example = {
    queryId: name,
    query: name,
    a: 0.5,
    b: 1,
    topA: [{ id: name, text: name, grade: 1 }],
    topB: [{ id: name, text: name, grade: 0 }],
  };
  const system = (role: 'student' | 'teacher' | 'other', suffix: string, x: number) => ({
    name: `${name}${suffix}`,
    role,
    metrics: { 'ndcg@10': x, 'mrr@10': x },
    bytes: 1e6 * (1 + x),
    queryMilliseconds: 10 * x,
  });
  const cost = {
    bytes: 1e7,
    parameters: 2e6,
    p50: 1.5,
    p95: 3,
    timed: 20,
    loadMilliseconds: 12,
    textsPerSecond: 900,
    peakBytes: 2e8,
  };
  return {
    title: name,
    facts: [[name, name]],
    notes: [name],
    systems: [system('student', '', 0.8), system('teacher', ' t', 0.9), system('other', ' o', 0.7)],
    comparisons: [
      {
        a: name,
        b: `teacher ${name}`,
        on: name,
        rows: compareEvaluations(evaluation(a), evaluation(b), undefined, { samples: 200 }),
      },
    ],
    fidelity: {
      queries: 9,
      skipped: 1,
      kendallTau: 0.5,
      spearman: 0.6,
      overlap10: 0.7,
      rbo: 0.8,
      kl: 0.1,
      confidentPairs: 0.9,
    },
    differences: { metric: name, a: name, b: name, better: [example], worse: [example] },
    calibration: { student: { ece: 0.1, brier: 0.2 }, teacher: { ece: 0.05, brier: 0.1 }, slope: 1.2, pairs: 100 },
    geometry: { effectiveRank: 30, uniformity: -2, alignment: 0.4, sampled: 50, dimensions: 64 },
    cost: [
      { ...cost, name, role: 'student', quality: 0.8 },
      { ...cost, name: `${name} int8`, role: 'student', bytes: 3e6, quality: 0.79 },
      { ...cost, name, role: 'teacher', pairs: 100 },
    ],
    speedFactor: 321,
    index: {
      name,
      documents: 1000,
      dimensions: 64,
      k: 10,
      recall: 0.97,
      buildSeconds: 1,
      queryMilliseconds: 0.1,
      exactMilliseconds: 1,
    },
    deferral: {
      curve: [
        { pairs: 0, quality: 0.7 },
        { pairs: 9, quality: 0.85 },
      ],
      random: [
        { pairs: 0, quality: 0.7 },
        { pairs: 9, quality: 0.8 },
      ],
      oracle: [
        { pairs: 0, quality: 0.7 },
        { pairs: 9, quality: 0.9 },
      ],
      at: { pairs: 4, quality: 0.8 },
    },
    training: {
      log: values((i) => i).map((i) => ({ step: i + 1, loss: 1 / (i + 1) })),
      evaluations: [
        { step: 1, score: 0.5 },
        { step: 60, score: 0.7 },
      ],
    },
    matryoshka: [
      { dimensions: 64, value: 0.8 },
      { dimensions: 32, value: 0.7 },
    ],
    perQuery: {
      queryIds: [...evaluation(a).queryIds],
      systems: { [name]: { 'ndcg@10': a, 'mrr@10': a }, [`teacher ${name}`]: { 'ndcg@10': b, 'mrr@10': b } },
    },
  };
}

const hostile = [
  '<script>alert(1)</script>',
  '"><img src=x onerror=alert(1)>',
  "' onload='alert(1)",
  '</style><script>alert(1)</script>',
  '</svg><script>alert(1)</script>',
  '&lt;b&gt; &amp; ]]> <!-- --> \u0000\u0008\u202e',
  'javascript:alert(1) {{x}} `x`',
];

test.each(hostile)('stays a text: %j', (name) => {
  const page = renderHtml(figures(name));
  const tags = new Set([...page.matchAll(/<\/?([a-zA-Z!][\w-]*)/g)].map(([, tag]) => tag.toLowerCase()));
  for (const tag of ['script', 'img', 'iframe', 'link', 'object', '!--']) expect(tags).not.toContain(tag);
  // Attributes are quoted, so an event handler can only be one where it stands inside a tag outside quotes.
  for (const [tag] of page.replace(/="[^"]*"/g, '=""').matchAll(/<[a-zA-Z][^>]*>/g))
    expect(tag).not.toMatch(/\son\w+=/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these must not come through
  expect(page).not.toMatch(/[\u0000-\u0008]/);
  expect(page.match(/<style>/g)?.length).toBeGreaterThanOrEqual(1);
  expect(page).toContain(escapeText(name).slice(0, 12));
});

test('lists, absent parts and markup in a template', () => {
  expect(html`<p>${['<', html`<b>`]}${undefined}${false}${0}</p>`.text).toBe('<p>&lt;<b>0</p>');
});

test('loads nothing and holds every part', () => {
  const page = renderHtml(figures('plain'));
  expect(page).not.toMatch(/(?:src|href)=|url\((?!#)|@import|https?:\/\/(?!www\.w3\.org)/);
  for (const part of [
    'Systems',
    'Quality against cost',
    'Fidelity',
    'Calibration and geometry',
    'Cost',
    'Approximate search',
    'Fewer dimensions',
    'Files of the checkpoint',
    'Training',
    'Where they disagree',
    'Notes',
  ])
    expect(page).toContain(`<h2>${part}</h2>`);
  expect(page).toContain('prefers-color-scheme: dark');
  expect(page).not.toContain('#0102');
  expect(page).not.toMatch(/NaN|undefined|Infinity/);
});

test('a report of a table alone is whole too', () => {
  const page = renderHtml({ title: 't', facts: [], notes: [], systems: figures('s').systems });
  expect(page).toContain('<h2>Systems</h2>');
  expect(page).not.toMatch(/NaN|undefined/);
});

test('markdown: the same figures, names that cannot break a table', () => {
  const text = renderMarkdown(figures('a|b <i>\nc'));
  expect(text).toContain('| a\\|b \\<i\\> c | 0.8000 | 0.8000 |');
  for (const row of text.split('\n').filter((l) => l.startsWith('| a\\|b'))) expect(row).toMatch(/\|$/);
  expect(text).toContain('| 64 | 0.8000 |');
});

const chromium = [
  process.env.CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
].find((p) => p && existsSync(p));
if (!chromium) console.log('skipped without Chromium: how the report looks in it (set CHROMIUM)');

test.skipIf(!chromium)('in Chromium: no overflow, no script, charts with marks, two themes', async () => {
  const { launch } = await import('puppeteer-core');
  const folder = mkdtempSync(join(tmpdir(), 'report-'));
  const browser = await launch({ executablePath: chromium, args: ['--no-sandbox', '--disable-gpu'] });
  try {
    const page = await browser.newPage();
    const complaints: string[] = [];
    page.on('console', (m) => complaints.push(m.text()));
    page.on('pageerror', (e) => complaints.push(String(e)));
    page.on('dialog', (d) => {
      complaints.push(d.message());
      void d.dismiss();
    });
    page.on('request', (r) => {
      if (!r.url().startsWith('file:')) complaints.push(r.url());
    });
    writeFileSync(join(folder, 'report.html'), renderHtml(figures(`${hostile[1]} a-name-of-some-length`)));
    const seen: string[] = [];
    for (const width of [1200, 360])
      for (const scheme of ['light', 'dark']) {
        await page.setViewport({ width, height: 800 });
        await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: scheme }]);
        await page.goto(`file://${join(folder, 'report.html')}`);
        const found = (await page.evaluate(`(() => {
          for (const d of document.querySelectorAll('details')) d.open = true;
          const shown = [...document.querySelectorAll('svg')].filter((s) => s.getBoundingClientRect().width > 0);
          const text = shown.flatMap((s) => [...s.querySelectorAll('text')]).map((t) => t.getBoundingClientRect().height);
          return {
            overflow: document.documentElement.scrollWidth - innerWidth,
            charts: shown.length,
            empty: shown.filter((s) => !s.querySelector('path, rect, polyline')).length,
            smallest: Math.min(...text),
            background: getComputedStyle(document.body).backgroundColor,
            mark: getComputedStyle(shown[0].querySelector('[fill="var(--student)"]')).fill,
          };
        })()`)) as {
          overflow: number;
          charts: number;
          empty: number;
          smallest: number;
          background: string;
          mark: string;
        };
        expect(found.overflow).toBeLessThanOrEqual(0);
        expect(found.charts).toBeGreaterThanOrEqual(8);
        expect(found.empty).toBe(0);
        // Text stays readable: charts are drawn for the width that shows them.
        expect(found.smallest).toBeGreaterThanOrEqual(9);
        seen.push(`${found.background} ${found.mark}`);
      }
    expect(new Set(seen).size).toBe(2);
    expect(complaints).toEqual([]);
  } finally {
    await browser.close();
    rmSync(folder, { recursive: true });
  }
});
