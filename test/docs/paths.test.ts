/** @file Files and folders that the pages name exist, and README lists every page of docs/. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { expect, test } from 'vitest';

const pages = ['README.md', 'ARCHITECTURE.md', 'CONTRIBUTING.md', 'SECURITY.md', 'engine/README.md'];
const docs = readdirSync('docs')
  .filter((name) => name.endsWith('.md'))
  .map((name) => join('docs', name));
const folders = new Set(readdirSync('.', { withFileTypes: true }).flatMap((e) => (e.isDirectory() ? [e.name] : [])));

/** Made by commands, so absent from a checkout. */
const made = /^(docs\/api|runs|dist)/;

/** Whether a path exists; a name with a star or NAME stands for any file of the folder that fits. */
function there(path: string): boolean {
  if (!/\*|NAME/.test(path)) return existsSync(path);
  if (!existsSync(dirname(path))) return false;
  const pattern = new RegExp(
    `^${basename(path)
      .replace('.', '\\.')
      .replace(/\*|NAME/, '.*')}$`,
  );
  return readdirSync(dirname(path)).some((name) => pattern.test(name));
}

test.each([...pages, ...docs])('paths in %s', (page) => {
  const base = page.startsWith('engine') ? 'engine' : '.';
  const named = Array.from(readFileSync(page, 'utf8').matchAll(/`([\w.-]+\/[\w./*-]*)`/g), ([, path]) => path)
    .map((path) => (folders.has(path.split('/')[0]) ? path : base === '.' ? '' : join(base, path)))
    .filter((path) => path && !made.test(path));
  const missing = named.filter((path) => !there(path));
  expect(missing).toEqual([]);
});

test("README lists every page, and the pages' links lead somewhere", () => {
  const readme = readFileSync('README.md', 'utf8');
  for (const page of docs) expect(readme, page).toContain(`](${page})`);
  for (const page of docs)
    for (const [, link] of readFileSync(page, 'utf8').matchAll(/\]\((?!https?:)([^)#]+)/g))
      expect(existsSync(join('docs', link)), `${page}: ${link}`).toBe(true);
});
