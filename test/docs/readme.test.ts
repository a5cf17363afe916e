/** @file README's programs type-check and run, its configs are read, its verbs, options and links exist. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { afterAll, expect, test, vi } from 'vitest';
import { parse } from 'yaml';
import { verbs } from '../../cli/verbs/index.ts';
import { parseConfig } from '../../config/parse.ts';
import { freshModel } from '../../models/new-model.ts';

const root = join(import.meta.dirname, '../..');
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const blocks = (language: string): string[] =>
  [...readme.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map((m) => m[1]);
const sources = new Map([
  ["'onnx-distill'", 'index.ts'],
  ["'onnx-distill/losses'", 'losses/index.ts'],
  ["'onnx-distill/evaluation'", 'evaluation/index.ts'],
]);
const folder = mkdtempSync(join(import.meta.dirname, 'readme-'));
afterAll(() => rmSync(folder, { recursive: true }));
const models = ['runs/student/checkpoint', 'models/cross-encoder'] as const;
const programs = blocks('ts').map((code, i) => {
  const file = join(folder, `example${i}.ts`);
  let local = code;
  for (const [name, path] of sources) local = local.replaceAll(name, `'${join(root, path)}'`);
  // A program that opens models alone runs with tiny ones.
  if (!code.includes('distill(')) for (const model of models) local = local.replaceAll(model, join(folder, model));
  writeFileSync(file, local);
  return { file, code };
});

test('its programs type-check', () => {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile);
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const program = ts.createProgram(
    programs.map((p) => p.file),
    { ...options, noEmit: true, rewriteRelativeImportExtensions: false },
  );
  const said = programs
    .flatMap(({ file }) => program.getSemanticDiagnostics(program.getSourceFile(file)))
    .map((d) => ts.flattenDiagnosticMessageText(d.messageText, '\n'));
  expect(programs).toHaveLength(4);
  expect(said).toEqual([]);
}, 120_000);

test('its models, losses and evaluation run and print the right values', async () => {
  const texts = ['crop a photo', 'install a package', 'play music'];
  const tiny = { hidden: 8, heads: 2, layers: 1 };
  for (const model of models) {
    const options = { ...tiny, kind: model.endsWith('cross-encoder') ? ('cross-encoder' as const) : undefined };
    await freshModel(join(folder, model), { length: texts.length, text: (i) => texts[i] }, options);
  }
  const said: unknown[][] = [];
  const log = vi.spyOn(console, 'log').mockImplementation((...values) => void said.push(values));
  try {
    for (const { file, code } of programs) if (!code.includes('distill(')) await import(file);
  } finally {
    log.mockRestore();
  }
  const [[pairs, cosines, logits], [values, gradient], [means]] = said as [
    [{ documentId: string }[], Float32Array, Float32Array],
    [Float64Array, Float64Array],
    [Record<string, number>],
  ];
  expect(new Set(pairs.map((p) => p.documentId)).size).toBe(2);
  expect(cosines[0]).toBeGreaterThanOrEqual(cosines[1]);
  expect(logits).toHaveLength(2);
  expect(values.every((v) => v > 0)).toBe(true);
  expect(gradient.reduce((a, b) => a + b, 0)).toBeCloseTo(0, 12);
  expect(means).toEqual({ 'ndcg@10': 1 / Math.log2(3), 'mrr@10': 0.5 });
});

test('its config is one, its verbs and options exist, its links lead somewhere', () => {
  for (const yaml of blocks('yaml'))
    expect(parseConfig(parse(yaml)).losses.map((l) => l.kind)).toEqual(['info-nce', 'kl']);
  const screen = { write: () => undefined };
  const known = verbs.map((v) => v({ out: screen, err: screen, signal: new AbortController().signal }));
  for (const [, verb, rest] of readme.matchAll(/(?<!onnx-)distill ([a-z-]+)([^`\n#]*)/g)) {
    if (['help'].includes(verb)) continue;
    const command = known.find((c) => c.name() === verb);
    if (!command && !/^ ?--/.test(rest) && !['a', 'is', 'the'].includes(verb))
      expect.fail(`there is no verb '${verb}'`);
    for (const [option] of rest.matchAll(/--[a-z-]+/g)) expect(command?.options.map((o) => o.long)).toContain(option);
  }
  for (const [, link] of readme.matchAll(/\]\(([^)#]+)\)/g))
    if (link !== 'docs/results.md') expect(existsSync(join(root, link)), link).toBe(true);
});
