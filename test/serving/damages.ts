/** @file What can happen to the files of a folder, and what a reader must make of it. */
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { InputError } from '../../common/errors.ts';
import { Random } from '../../math/random.ts';

const random = Random.of(3, 'damage');

const filesOf = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(folder, name)).isFile())
    .sort();

/** The same file of another index: of the same name, or the n-th of its kind. */
function counterpart(name: string, files: readonly string[], others: readonly string[]): string | undefined {
  const kind = (f: string): string => f.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/, '');
  const n = files.filter((f) => kind(f) === kind(name)).indexOf(name);
  return others.filter((f) => kind(f) === kind(name))[n];
}

/** What can happen to a file. */
export function* damages(content: Buffer, others: readonly Buffer[]): Generator<[string, Buffer | undefined]> {
  yield ['deleted', undefined];
  for (const n of [0, 1, content.length >> 1, content.length - 1]) yield [`cut to ${n}`, content.subarray(0, n)];
  yield ['longer', Buffer.concat([content, content.subarray(0, 8)])];
  const places = content.length < 400 ? content.length : 60;
  for (let i = 0; i < places; i++) {
    const changed = Buffer.from(content);
    const place = places < content.length ? random.integer(content.length) : i;
    changed[place] ^= 1 << (i & 7);
    yield [`byte ${place} changed`, changed];
  }
  for (const [i, other] of others.entries()) yield [`of another index (${i})`, other];
}

/** @returns what was found, or the refusal, which is one sentence */
export async function outcome(search: () => Promise<unknown>): Promise<{ found: string } | { refused: string }> {
  try {
    return { found: JSON.stringify(await search()) };
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    expect(error.message).not.toContain('\n');
    return { refused: error.message };
  }
}

/**
 * Each file of a folder with all damages: a search is refused, or finds what it found.
 * @param others folders of the same kind whose files are put in the place of its own
 * @param lost files that are made again where they are missing
 */
export async function everyFile(
  folder: string,
  others: readonly string[],
  search: () => Promise<unknown>,
  { lost }: { lost?: RegExp } = {},
): Promise<void> {
  const files = filesOf(folder);
  expect(files.length).toBeGreaterThan(1);
  const before = JSON.stringify(await search());
  const kept = `${folder}-before`;
  cpSync(folder, kept, { recursive: true });
  for (const name of files) {
    const path = join(folder, name);
    const content = readFileSync(path);
    const same = others.flatMap((o) => {
      const found = counterpart(name, files, filesOf(o));
      return found ? [readFileSync(join(o, found))] : [];
    });
    expect(same.length, name).toBe(others.length);
    for (const [what, changed] of damages(content, same)) {
      // The same documents have the same postings, whatever embeds them.
      if (changed?.equals(content)) continue;
      if (changed) writeFileSync(path, changed);
      else rmSync(path);
      const result = await outcome(search);
      // Postings whose file is missing are made again, into another one.
      if (lost?.test(name) && what === 'deleted') {
        expect(result).toEqual({ found: before });
        rmSync(folder, { recursive: true });
        cpSync(kept, folder, { recursive: true });
        continue;
      }
      // A line end that is missing, or postings that no query reads, change nothing: then the answer is the same.
      if ('found' in result && result.found === before && /^cut|^byte/.test(what)) continue;
      expect('refused' in result, `${name}, ${what}: ${JSON.stringify(result).slice(0, 200)}`).toBe(true);
      if ('refused' in result) expect(result.refused, what).toMatch(/; (restore|make|name|index|calibrate)/);
    }
    writeFileSync(path, content);
  }
  rmSync(kept, { recursive: true });
  expect(JSON.stringify(await search())).toBe(before);
}
