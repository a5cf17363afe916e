/** @file An index in an engine of the user's own: the hits of an index in a folder, the command, a cascade, kills. */
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sealed, unsealed } from '../../common/sealed.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { openEngine, readAddress } from '../../retrieval/engines/index.ts';
import { lexicalChannel, writeLexicalChannel } from '../../retrieval/lexical-channel.ts';
import { cascade } from '../../search/fit-cascade.ts';
import {
  createEngineIndex,
  createIndex,
  EngineIndex,
  openCascade,
  openIndex,
  type SearchOptions,
} from '../../serving/index.ts';
import { distill, documents, jsonl, makeWorld, queries, write } from '../cli/world.ts';
import { build, heard, start } from '../reliability/command.ts';
import { type TestEngine, testEngines } from '../retrieval/engines/servers.ts';

let world: string;
const at = (name: string): string => join(world, name);
const own = documents.map((d, i) => ({
  id: d._id,
  text: `${d.title} ${d.text}`,
  metadata: { even: i % 2 === 0, at: i },
}));
const texts = { length: own.length, text: (i: number) => own[i].text };
const asked = queries.map((q) => q.text);

beforeAll(async () => {
  build();
  world = await makeWorld();
  cpSync(at('dual'), at('hybrid'), { recursive: true });
  const weight = { lambda: 0.3, scale: 4 };
  await writeLexicalChannel(at('hybrid'), lexicalChannel(await bm25(texts, { analyzer: 'english' }), weight));
});
afterAll(() => {
  rmSync(world, { recursive: true, force: true });
});

/** Equal documents and scores to 1e-5; of scores that are as near as that, either order. */
function expectSame(found: readonly { id: string; score: number }[], wanted: readonly { id: string; score: number }[]) {
  expect(found).toHaveLength(wanted.length);
  for (const [i, hit] of found.entries()) {
    expect(Math.abs(hit.score - wanted[i].score)).toBeLessThan(1e-5);
    const alike = wanted.filter((w) => Math.abs(w.score - hit.score) < 1e-5).map((w) => w.id);
    if (i < wanted.length - 1 || alike.length) expect(alike).toContain(hit.id);
  }
}

/** Postgres takes seconds to start: it is shared. */
let shared: Promise<TestEngine> | undefined;
const postgres = async (): Promise<TestEngine> => {
  shared ??= testEngines.postgres();
  return { ...(await shared), close: async () => {} };
};
afterAll(async () => (await shared)?.close());

describe.each(Object.entries({ ...testEngines, postgres }))('%s', (name, open) => {
  let engine: TestEngine;
  beforeAll(async () => {
    engine = await open();
  });
  afterAll(() => engine?.close());
  const folder = (kind: string): string => at(`${name}-${kind}`);

  test.each(['dual', 'hybrid'])('%s: hits, filters and keys of an index in a folder', async (kind) => {
    const local = await createIndex(at(`${name}-${kind}-local`), { encoder: at(kind), settings: { codec: 'float32' } });
    await local.add(own);
    const made = { encoder: at(kind), to: engine.address, collection: kind, texts };
    const index = await createEngineIndex(folder(kind), made);
    await index.add(own);
    await index.settle();
    expect([index.size, index.hybrid, index.key]).toEqual([40, kind === 'hybrid', local.key]);
    const searches: SearchOptions[] = [{}, { filter: { even: true } }, { filter: { at: 7 } }, { filter: { at: '7' } }];
    for (const options of searches) {
      const expected = await local.searchMany(asked, 7, options);
      for (const [i, found] of (await index.searchMany(asked, 7, options)).entries()) expectSame(found, expected[i]);
    }
    const [hit] = await index.search(asked[0], 1);
    expect(hit).toMatchObject(own.find((d) => d.id === hit.id) as object);
    await index.close();

    const again = await openIndex(folder(kind));
    expect(again).toBeInstanceOf(EngineIndex);
    await again.replace({ id: 'd0', text: 'quagga zebra', metadata: { even: false } });
    await local.replace({ id: 'd0', text: 'quagga zebra', metadata: { even: false } });
    expect((await again.search('quagga zebra', 40)).map((d) => d.id)).toContain('d0');
    expect(await again.get('d0')).toEqual({ id: 'd0', text: 'quagga zebra', metadata: { even: false } });
    await expect(again.replace({ id: 'nobody', text: 'a' })).rejects.toThrow("no document 'nobody' to replace");
    expect(await again.remove(['d0', 'd1', 'd1', 'nobody'])).toBe(2);
    expect([again.size, await again.has('d0'), await again.has('d2')]).toEqual([38, false, true]);
    await again.close();
    await local.close();
    // What is kept names no secret, and another start with the same goes on.
    expect(readFileSync(join(folder(kind), 'engine.json'), 'utf8')).toContain('"collection"');
    rmSync(folder(kind), { recursive: true });
    const more = await createEngineIndex(folder(kind), made);
    expect(await more.missing(own)).toEqual(own.slice(0, 2));
    await more.close();
  });

  test('what it cannot hold is refused before anything is written, or replaced and said', async () => {
    const made = { encoder: at('dual'), to: engine.address, collection: 'held', texts };
    const index = await createEngineIndex(folder('held'), made);
    const good = Array.from({ length: 1030 }, (_, i) => ({ id: `g${i}`, text: 'open' }));
    const bad: [object, string][] = [
      [{ id: '\ud800x', text: 'a' }, 'has half of a surrogate pair: expected text that UTF-8 can hold'],
      [{ id: '', text: 'a' }, 'document 1030 has no id'],
      [{ id: 'g3', text: 'a' }, "the id 'g3' occurs twice"],
      [{ id: 'x' }, "document 'x' has no text"],
    ];
    if (name === 'postgres')
      bad.push([{ id: 'a\0', text: 'a' }, 'has the character 0: expected text that postgres://']);
    if (name === 'opensearch') bad.push([{ id: 'é'.repeat(257), text: 'a' }, 'has 514 bytes: expected at most 512']);
    for (const [document, why] of bad) {
      await expect(index.add([...good, document as { id: string; text: string }])).rejects.toThrow(why);
      const { id } = document as { id: string };
      if (id !== 'x') expect(() => index.checkIds([...good.map((d) => d.id), id])).toThrow(why);
    }
    expect(index.size).toBe(0);
    // An id that cannot be there is not another one.
    await index.add([{ id: '\ufffd', text: 'open' }]);
    expect([await index.remove(['\ud800']), await index.has('\ud800'), await index.has('\ufffd')]).toEqual([
      0,
      false,
      true,
    ]);

    const notes: (string | undefined)[] = [];
    const strange = { id: 's', text: 'op\ud800en f\0ile', metadata: { 'a\udc00': 'b\ud83d', c: 'x\0' } };
    await index.add([strange, { ...strange, id: 't' }], { onProgress: (p) => notes.push(p.note) });
    expect(notes.filter(Boolean)).toEqual([expect.stringMatching(/^the document 's' holds half of a surrogate pair/)]);
    expect(await index.missing([strange])).toEqual([]);
    expect(await index.get('s')).toEqual({
      id: 's',
      text: name === 'postgres' ? 'op\ufffden f\ufffdile' : 'op\ufffden f\0ile',
      metadata: { 'a\ufffd': 'b\ufffd', c: 'x\0' },
    });
    expect(await index.search('open', 3, { filter: { 'a\udc00': 'b\ud83d' } })).toHaveLength(2);
    await index.close();
  });

  test('a collection that was made with another encoder, and one that is gone', async () => {
    cpSync(at('dual'), at('changed'), { recursive: true });
    writeFileSync(join(at('changed'), 'distill.json'), JSON.stringify({ config: { student: { documentTokens: 9 } } }));
    const made = { encoder: at('changed'), to: engine.address, collection: 'dual', texts };
    await expect(createEngineIndex(folder('other'), made)).rejects.toThrow(
      'holds documents of another encoder, or weighed otherwise',
    );
    const file = join(folder('dual'), 'engine.json');
    const text = readFileSync(file, 'utf8');
    const { engine: place, ...rest } = unsealed(text).value as { engine: object };
    writeFileSync(file, sealed({ ...rest, engine: { ...place, collection: 'none' } }));
    await expect(openIndex(folder('dual'))).rejects.toThrow(/there is no collection .*#none, which .* names/);
    writeFileSync(file, text.replace('engine-2', 'engine-1'));
    await expect(openIndex(folder('dual'))).rejects.toThrow('is not a description of an index of this version');
    writeFileSync(file, text);
    writeFileSync(join(folder('hybrid'), 'lexical.json'), readFileSync(join(at('hybrid'), 'lexical.json')));
    await (await openIndex(folder('hybrid'))).close();
    rmSync(join(folder('hybrid'), 'lexical.json'));
    await expect(openIndex(folder('hybrid'))).rejects.toThrow('lexical.json is missing; restore it');
  });
});

describe('the command', () => {
  let engine: TestEngine;
  beforeAll(async () => {
    const rows = documents.map((d, i) => ({ ...d, metadata: { section: i % 2 ? 'odd' : 'even' }, year: 2000 + i }));
    cpSync(at('data'), at('rich'), { recursive: true });
    write(world, { 'rich/corpus.jsonl': jsonl(rows) });
    engine = await postgres();
  });

  test('index --to, search, cascade; metadata of the data comes back', async () => {
    const index = (...more: string[]) =>
      distill('index', at('dual'), '--data', at('rich'), '--output', at('engine'), '--to', engine.address, ...more);
    const first = await index();
    expect(first.out).toContain(
      `40 documents in ${engine.address.replace('postgres@', '')}#documents, named by ${at('engine')}: 40 embedded`,
    );
    expect((await index()).out).toContain('0 embedded, 40 already in the index');
    expect((await index('--collection', 'more')).err).toContain('holds an index made with postgres://');
    expect((await index('--codec', 'int8')).err).toContain('--codec with --to: expected options of the engine');
    const found = JSON.parse(
      (await distill('search', at('engine'), 'open file', '-k', '3', '--json', '--where', 'section=odd')).out,
    );
    expect(found.documents).toHaveLength(3);
    for (const { id, metadata } of found.documents)
      expect(metadata).toEqual({ section: 'odd', year: 2000 + Number(id.slice(1)) });
    const one = JSON.parse((await distill('search', at('engine'), 'open', '--json', '--where', 'year=2004')).out);
    expect(one.documents.map((d: { id: string }) => d.id)).toEqual(['d4']);
    expect((await distill('search', at('engine'), 'open', '--where', 'year')).err).toContain('a field and its value');

    await cascade({
      ...{
        student: at('dual'),
        teacher: at('cross'),
        data: at('data'),
        index: at('engine'),
        output: at('cascade.json'),
      },
      ...{ calibrate: 'train', risk: 0.3, candidates: 20, cache: at('cache') },
    });
    const served = await openCascade(at('cascade.json'), { index: at('engine') });
    expect((await served.search('open file', 3)).documents).toHaveLength(3);
    await served.close();
  });

  test('a folder keeps and filters metadata too', async () => {
    const made = await distill('index', at('dual'), '--data', at('rich'), '--output', at('local'));
    expect(made.out).toContain('40 embedded');
    const found = JSON.parse(
      (await distill('search', at('local'), 'open', '--json', '--where', 'section=odd', '--where', 'year=2005')).out,
    );
    expect(found.documents).toEqual(
      [
        {
          ...documents[5],
          _id: undefined,
          title: undefined,
          id: 'd5',
          text: `t5 ${documents[5].text}`,
          metadata: { section: 'odd', year: 2005 },
          score: expect.any(Number),
        },
      ].map(({ _id, title, ...d }) => d),
    );
  });

  test('killed again and again while it writes: nothing is lost, nothing is there twice, nothing is embedded again', async () => {
    const many = Array.from({ length: 6000 }, (_, i) => ({
      _id: `m${i}`,
      title: '',
      text: `${documents[i % 40].text} ${i}`,
    }));
    cpSync(at('data'), at('many'), { recursive: true });
    write(world, { 'many/corpus.jsonl': jsonl([...documents, ...many]) });
    const place = readAddress(engine.address, 'many');
    const argv = [
      'index',
      at('dual'),
      '--data',
      at('many'),
      '--output',
      at('many-index'),
      '--to',
      engine.address,
      '--collection',
      'many',
    ];
    let before = 0;
    for (let round = 0; round < 3; round++) {
      const run = start(argv);
      // Batches of 1024: some are written, and the next is under way.
      await heard(run, new RegExp(`${[' 1[0-9]{3}', ' 2[0-9]{3}', ' 4[0-9]{3}'][round]}|/6040`));
      const there = await watched(place, before);
      run.child.kill('SIGKILL');
      await run.ended;
      expect(there).toBeGreaterThan(before);
      before = there;
    }
    const last = start([...argv, '--json']);
    expect(await last.ended).toBe(0);
    const report = JSON.parse(last.said().match(/\{.*\}/)?.[0] as string);
    expect(report.documents).toBe(6040);
    expect(report.added).toBeLessThanOrEqual(6040 - before);
    expect(report.kept).toBeGreaterThanOrEqual(before);
    const index = await openIndex(at('many-index'));
    expect(index.size).toBe(6040);
    expect(await index.missing(many.map((d) => ({ id: d._id, text: d.text })))).toEqual([]);
    await index.close();
  }, 240_000);

  /** Waits until a collection has more rows than before. */
  async function watched(place: ReturnType<typeof readAddress>, before: number): Promise<number> {
    const open = await openEngine(place);
    try {
      for (let i = 0; i < 2400; i++) {
        const n = (await open.about()) === undefined ? 0 : await open.size();
        if (n > before) return n;
        await new Promise((go) => setTimeout(go, 50));
      }
      return before;
    } finally {
      await open.close();
    }
  }
});
