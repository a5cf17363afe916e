/** @file Every kind of index, killed while documents are added: it opens, and what was there before and what was confirmed is there. */
import { spawn } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { distill } from '../../pipelines/distill.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { lexicalChannel, writeLexicalChannel } from '../../retrieval/lexical-channel.ts';
import {
  createIndex,
  createSparseIndex,
  type DocumentIndex,
  openIndex,
  type SearchIndex,
} from '../../serving/index.ts';
import { makeWorld, type World } from '../pipelines/world.ts';
import { build, builtFolder } from '../reliability/command.ts';

let world: World;
const at = (name: string): string => join(world.folder, name);
const texts = ['red lamp from the kitchen', 'blue tent in the attic', 'white piano in the garden'];
const before = texts.map((text, i) => ({ id: `before${i}`, text }));

beforeAll(async () => {
  build();
  world = await makeWorld();
});
afterAll(() => rmSync(world.folder, { recursive: true, force: true }));

type Options = Parameters<typeof distill>[0];
const trained = async (name: string, more: Pick<Options, 'student'> & Partial<Options>): Promise<string> =>
  (
    await distill({
      output: at(name),
      cache: at('cache'),
      data: { path: world.data },
      teacher: { kind: 'cross-encoder', model: world.crossEncoder },
      candidates: { source: 'bm25', count: 4 },
      train: { steps: 1, batchSize: 4, candidates: 2, evaluateEvery: null, threads: 1, provider: 'cpu' },
      ...more,
    })
  ).checkpoint;

const kinds: Record<string, (folder: string) => Promise<DocumentIndex>> = {
  dense: (folder) => createIndex(folder, { encoder: world.dualEncoder, settings: { codec: 'int8' } }),
  hybrid: async (folder) => {
    cpSync(world.dualEncoder, at('hybrid-encoder'), { recursive: true });
    const own = await bm25({ length: texts.length, text: (i) => texts[i] }, { analyzer: 'english' });
    await writeLexicalChannel(at('hybrid-encoder'), lexicalChannel(own, { lambda: 0.5, scale: 4 }));
    return createIndex(folder, { encoder: at('hybrid-encoder') });
  },
  sparse: async (folder) => {
    const student = { sparse: { columns: 64 }, model: world.dualEncoder, queryTokens: 12, documentTokens: 40 };
    const evaluate = { teacher: false, bm25: false };
    return createSparseIndex(folder, { encoder: await trained('sparse-run', { student, evaluate }) });
  },
  'multi-vector': async (folder) => {
    const student = { multiVector: { dimensions: 8, tokens: 12 }, documentTokens: 24 };
    const own = { pipeline: 'late-interaction' as const, embedder: { model: world.dualEncoder }, student };
    return createIndex(folder, {
      encoder: await trained('late-run', { ...own, evaluate: { teacher: false, depth: 5 } }),
    });
  },
};

/** Adds two documents at a time, one of them in place of an earlier one, and prints what was confirmed. */
const program = (folder: string, from: number): string => `
  import { openIndex } from ${JSON.stringify(pathToFileURL(join(builtFolder(), 'serving/open-index.js')).href)};
  const index = await openIndex(${JSON.stringify(folder)});
  for (let i = ${from}; ; i++) {
    await index.add([{ id: 'new' + i, text: 'green lamp ' + i }, { id: 'same', text: 'black chair ' + i }]);
    console.log(i);
  }`;

test.each(Object.entries(kinds))('%s', async (kind, make) => {
  const folder = at(`${kind}-index`);
  const made = await make(folder);
  await made.add(before);
  await made.close();
  let there = 0;
  for (let round = 0; round < 2; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program(folder, there)]);
    let [confirmed, errors] = [there - 1, ''];
    child.stdout.on('data', (text) => {
      confirmed = Number(String(text).trim().split('\n').at(-1));
      // Within the next batch, at another place of it each time.
      if (confirmed >= there + 3) setTimeout(() => child.kill('SIGKILL'), 3 * round);
    });
    child.stderr.on('data', (text) => {
      errors += text;
    });
    await new Promise((ended) => child.on('close', ended));
    expect([child.signalCode, errors]).toEqual(['SIGKILL', '']);

    const index = (await openIndex(folder)) as SearchIndex;
    const documents = [...index.documents()];
    const added = documents.filter((d) => d.id.startsWith('new')).length;
    // A batch that was under way is there as a whole or not at all.
    expect(added === confirmed + 1 || added === confirmed + 2).toBe(true);
    expect(await index.missing([...before, { id: 'same', text: `black chair ${added - 1}` }])).toEqual([]);
    for (let i = 0; i < added; i++) expect(index.get(`new${i}`)?.text).toBe(`green lamp ${i}`);
    expect(new Set(documents.map((d) => d.id)).size).toBe(before.length + added + 1);
    expect([documents.length, index.size]).toEqual([before.length + added + 1, documents.length]);
    const found = await index.search('lamp', index.size);
    const lamps = documents.filter((d) => d.text.includes('lamp')).map((d) => d.id);
    expect(lamps.filter((id) => !found.some((d) => d.id === id))).toEqual([]);
    if (kind === 'multi-vector') expect(documents.every((d) => index.second?.has(d))).toBe(true);
    await index.add([{ id: `new${added}`, text: `green lamp ${added}` }]);
    there = added + 1;
    await index.close();
  }
});
