/** transformers.js and onnx-distill/static in a real browser, on the page of examples/browser. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer, { type Browser, type Page } from 'puppeteer-core';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Encoder } from '../../models/encoder.ts';
import { StaticEncoder } from '../../static/index.ts';
import { exportFolder } from '../../students/export/export-folder.ts';
import { staticTower } from '../static/tower.ts';
import { cosines, type Exported, exportEverything, largestDifference, texts } from './tools.ts';

const chromium = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'].find((f) => f && existsSync(f));
if (!chromium) console.log('skipped where there is no Chromium: the page of examples/browser (set CHROMIUM)');

const documents = [
  'a text editor with syntax highlighting',
  'install a kernel module',
  'play music and videos',
  'draw diagrams',
];

describe.skipIf(!chromium)('a page in Chromium', () => {
  const folder = mkdtempSync(join(tmpdir(), 'browser-'));
  let made: Exported;
  let browser: Browser;
  const servers: ChildProcess[] = [];

  beforeAll(async () => {
    made = await exportEverything();
    mkdirSync(join(folder, 'data'));
    const lines = documents.map((text, i) => JSON.stringify({ _id: `d${i}`, title: '', text }));
    writeFileSync(join(folder, 'data', 'corpus.jsonl'), lines.join('\n'));
    const source = readFileSync('static/index.ts', 'utf8');
    const { outputText } = ts.transpileModule(source, {
      compilerOptions: { module: ts.ModuleKind.ES2022, target: ts.ScriptTarget.ES2022 },
    });
    writeFileSync(join(folder, 'static.js'), outputText);
    await staticTower(join(folder, 'tower'), made.whole, made.width);
    await exportFolder(join(folder, 'tower'), join(folder, 'static'), { dtypes: ['static-int8'] });
    browser = await puppeteer.launch({ executablePath: chromium, args: ['--no-sandbox', '--disable-gpu'] });
  });
  afterAll(async () => {
    await browser?.close();
    for (const server of servers) server.kill();
  });

  async function open(dtype: string): Promise<Page> {
    const args = ['examples/browser/serve.js', '--port', '0', '--dtype', dtype, '--model', made.whole];
    const more = [
      '--data',
      join(folder, 'data'),
      '--static',
      join(folder, 'static'),
      '--module',
      join(folder, 'static.js'),
    ];
    const server = spawn(process.execPath, [...args, ...more], { stdio: ['ignore', 'pipe', 'inherit'] });
    servers.push(server);
    const url = await new Promise<string>((done) =>
      server.stdout.once('data', (d: Buffer) => done(d.toString().trim())),
    );
    const page = await browser.newPage();
    // The first mistake of the page ends the wait.
    const failed = new Promise<never>((_, reject) => page.on('pageerror', reject));
    failed.catch(() => {});
    await page.goto(url);
    await Promise.race([page.waitForFunction("document.body.dataset.ready === 'true'", { timeout: 90_000 }), failed]);
    return page;
  }

  /** What a function of the page makes of each text. */
  const embedded = async (page: Page, call: string): Promise<number[]> =>
    (
      (await page.evaluate(
        `(async (texts) => { const rows = []; for (const t of texts) rows.push(await ${call}); return rows; })(${JSON.stringify(texts)})`,
      )) as number[][]
    ).flat();

  test.each([
    ['fp32', 1e-4],
    ['fp16', 0.9999],
    ['q8', 0.99],
    ['q4', 0.93],
  ])('%s: the embeddings of every text', async (dtype, bound) => {
    const page = await open(dtype);
    const vectors = await embedded(page, 'embed([t]).then((v) => v[0])');
    if (dtype === 'fp32') expect(largestDifference(vectors, made.embeddings)).toBeLessThan(bound);
    else expect(Math.min(...cosines(vectors, made.embeddings, made.width))).toBeGreaterThan(bound);
    await page.close();
  });

  test('what is typed is found, by the model and by the static tower', async () => {
    const page = await open('fp32');
    await page.type('#query', documents[2]);
    await page.waitForFunction("document.querySelector('#results li')?.dataset.id === 'd2'");
    expect(await page.$$eval('#results li', (all) => all.length)).toBe(documents.length);
    const tower = new StaticEncoder(readFileSync(join(folder, 'static', 'static.safetensors')));
    const expected = texts.flatMap((t) => [...tower.embed(t)]);
    expect(largestDifference(await embedded(page, 'embedStatic(t)'), expected)).toBeLessThan(1e-6);
    await page.click('[value=static]');
    const encoder = await Encoder.load(made.whole);
    const rows = await encoder.encode(documents);
    await encoder.dispose();
    const query = tower.embed(documents[2]);
    const scores = documents.map((_, i) => query.reduce((s, x, d) => s + x * rows[i * made.width + d], 0));
    const best = `d${scores.indexOf(Math.max(...scores))}`;
    await page.waitForFunction(`document.querySelector('#results li')?.dataset.id === '${best}'`);
    await page.close();
  });
});
