/** @file Every file of an index, a cascade, a semantic cache and an engine's folder: gone, cut, changed or of another index. */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { freshModel } from '../../models/new-model.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { lexicalChannel, writeLexicalChannel } from '../../retrieval/lexical-channel.ts';
import type { IndexSettings } from '../../retrieval/vector-index.ts';
import { cascade } from '../../search/fit-cascade.ts';
import { semanticCache } from '../../search/semantic-cache.ts';
import { readCascade } from '../../serving/cascade-file.ts';
import { createEngineIndex, createIndex, openCascade, openIndex } from '../../serving/index.ts';
import { readSemanticCache } from '../../serving/semantic-cache.ts';
import { distill, documents, makeWorld, queries } from '../cli/world.ts';
import { testEngines } from '../retrieval/engines/servers.ts';
import { damages, everyFile, outcome } from './damages.ts';

let world: string;
const at = (name: string): string => join(world, name);
const own = documents.map((d, i) => ({ id: d._id, text: `${d.title} ${d.text}`, metadata: { at: i } }));
const texts = { length: own.length, text: (i: number) => own[i].text };
const asked = queries.map((q) => q.text);

/** Three indexes: what is damaged, another one by the same encoder, and one by another encoder of the same width. */
async function made(name: string, encoder: string, settings: IndexSettings, from: number): Promise<void> {
  const index = await createIndex(at(name), { encoder: at(encoder), settings });
  await index.add(own.slice(from, from + 15));
  await index.add(own.slice(from + 15, from + 30));
  await index.remove([own[from + 3].id, own[from + 20].id]);
  await index.close();
}

beforeAll(async () => {
  world = await makeWorld();
  vi.stubEnv('XDG_CACHE_HOME', join(world, 'cache-home'));
  await freshModel(at('other'), texts, { hidden: 16, layers: 1, heads: 2, maxLength: 64, vocabulary: 200, seed: 8 });
  for (const name of ['dual', 'other'])
    await writeLexicalChannel(
      at(name),
      lexicalChannel(await bm25(texts, { analyzer: 'english' }), { lambda: 0.3, scale: 4 }),
    );
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(world, { recursive: true, force: true });
});

const searchIn = (folder: string) => async () => {
  const index = await openIndex(folder);
  try {
    return await index.searchMany(asked, 8);
  } finally {
    await index.close();
  }
};

describe.each<[string, IndexSettings]>([
  ['plain', { codec: 'int8' }],
  ['graph', { codec: 'int8', graph: { expansion: 30, from: 10 } }],
  ['all-kinds', { codec: 'int8', rescore: { codec: 'float16', count: 20 }, cells: { count: 3, probes: 2 } }],
])('an index, %s', (kind, settings) => {
  beforeAll(async () => {
    await made(kind, 'dual', settings, 0);
    await made(`${kind}-2`, 'dual', settings, 10);
    await made(`${kind}-3`, 'other', settings, 0);
  });

  test('every file: deleted, cut, changed, or of another index', async () => {
    await everyFile(at(kind), [at(`${kind}-2`), at(`${kind}-3`)], searchIn(at(kind)), { lost: /terms-/ });
  });

  test('the folder of vectors: gone, emptied, of another index', async () => {
    const [vectors, kept] = [at(`${kind}/vectors`), at(`${kind}-kept`)];
    cpSync(vectors, kept, { recursive: true });
    rmSync(vectors, { recursive: true });
    await expect(searchIn(at(kind))()).rejects.toThrow('is missing; restore the folder, or make the index again');
    cpSync(at('data'), vectors, { recursive: true });
    await expect(searchIn(at(kind))()).rejects.toThrow('is missing; restore the folder, or make the index again');
    for (const [other, why] of [
      [`${kind}-2`, 'belongs to another index than the rest of'],
      [`${kind}-3`, 'holds vectors of another encoder than'],
    ]) {
      rmSync(vectors, { recursive: true });
      cpSync(at(`${other}/vectors`), vectors, { recursive: true });
      await expect(searchIn(at(kind))()).rejects.toThrow(why);
      // Nor is such a folder gone on with, or served.
      const more = await distill('index', at('dual'), '--data', at('data'), '--output', at(kind));
      expect([more.code, more.err]).toEqual([2, expect.stringContaining(why)]);
      const served = await distill('serve', at(kind), '--port', '0');
      expect([served.code, served.err]).toEqual([2, expect.stringContaining(why)]);
    }
    rmSync(vectors, { recursive: true });
    cpSync(kept, vectors, { recursive: true });
    await searchIn(at(kind))();
  });

  test('without its description, documents are not taken for leftovers', async () => {
    const file = at(`${kind}/search.json`);
    const content = readFileSync(file);
    rmSync(file);
    await expect(createIndex(at(kind), { encoder: at('dual') })).rejects.toThrow('is not empty');
    writeFileSync(file, content);
    await searchIn(at(kind))();
  });
});

describe('an encoder that is not the one of the vectors', () => {
  const retrained = async (): Promise<void> =>
    void (await freshModel(at('dual'), texts, {
      hidden: 16,
      layers: 1,
      heads: 2,
      maxLength: 64,
      vocabulary: 200,
      seed: 9,
    }));

  test.each<[string, () => Promise<void> | void]>([
    ['the weights', retrained],
    [
      'the pooling',
      () => edited('1_Pooling/config.json', { pooling_mode_mean_tokens: false, pooling_mode_cls_token: true }),
    ],
    ['the prompts', () => edited('config_sentence_transformers.json', { prompts: { query: 'find: ' } })],
    ['the limit', () => edited('sentence_bert_config.json', { max_seq_length: 5 })],
    ['the first position', () => edited('config.json', { model_type: 'roberta' })],
    ['the options of documents', () => edited('distill.json', { config: { student: { documentTokens: 7 } } })],
    ['the options of queries', () => edited('distill.json', { config: { student: { queryTokens: 7 } } })],
  ])('%s', async (_, change) => {
    cpSync(at('dual'), at('kept'), { recursive: true });
    try {
      await change();
      await expect(searchIn(at('plain'))()).rejects.toThrow(
        /is not the (encoder|one) that .*plain was made with.*; name the right checkpoint, or make the index again/,
      );
    } finally {
      rmSync(at('dual'), { recursive: true });
      cpSync(at('kept'), at('dual'), { recursive: true });
      rmSync(at('kept'), { recursive: true });
    }
    await searchIn(at('plain'))();
  });

  function edited(name: string, change: object): void {
    const file = join(at('dual'), name);
    let before = {};
    try {
      before = JSON.parse(readFileSync(file, 'utf8'));
    } catch {
      // The folder has none: it is written.
    }
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, JSON.stringify({ ...before, ...change }));
  }
});

test('cascade.json and semantic-cache.json: cut, changed, of another student or of an index with other documents embedded', async () => {
  for (const name of ['dual', 'other'])
    expect((await distill('index', at(name), '--data', at('data'), '--output', at(`${name}-index`))).code).toBe(0);
  const common = {
    data: at('data'),
    candidates: 10,
    cache: at('cache'),
    calibrate: 'train',
    risk: 0.3,
    confidence: 0.6,
  };
  for (const name of ['dual', 'other']) {
    const index = at(`${name}-index`);
    await cascade({ ...common, student: at(name), teacher: at('cross'), index, output: at(`${name}.json`) });
    await semanticCache({ ...common, index, output: at(`${name}-answers.json`) });
  }
  for (const [file, other, read] of [
    ['dual.json', 'other.json', readCascade],
    ['dual-answers.json', 'other-answers.json', readSemanticCache],
  ] as const) {
    const content = readFileSync(at(file));
    for (const [what, changed] of damages(content, [])) {
      if (changed) writeFileSync(at(file), changed);
      else rmSync(at(file));
      const result = await outcome(() => read(at(file)) as Promise<unknown>);
      expect('refused' in result, `${file}, ${what}`).toBe(true);
    }
    writeFileSync(at(file), readFileSync(at(other)));
    const open = () =>
      read === readCascade
        ? distill('search', at('dual-index'), 'open', '--cascade', at(file))
        : distill('serve', at('dual-index'), '--port', '0', '--semantic-cache', at(file));
    const said = await open();
    expect([said.code, said.err]).toEqual([2, expect.stringContaining('its hash differs')]);
    writeFileSync(at(file), content);
  }
  // The same query encoder over documents that were cut elsewhere.
  const cut = await createIndex(at('cut'), { encoder: at('dual'), documentTokens: 4 });
  await cut.add(own);
  await expect(openCascade(at('dual.json'), { index: cut })).rejects.toThrow('is not the one that');
  await cut.close();
});

test("the folder of an engine's index: every file", async () => {
  const engine = await testEngines.qdrant();
  try {
    for (const [name, encoder] of [
      ['engine', 'dual'],
      ['engine2', 'other'],
    ]) {
      const some = own.slice(name === 'engine' ? 0 : 5);
      const given = { length: some.length, text: (i: number) => some[i].text };
      const index = await createEngineIndex(at(name), {
        encoder: at(encoder),
        to: engine.address,
        collection: name,
        texts: given,
      });
      await index.add(some);
      await index.close();
    }
    // Another index's engine.json names what it names: with its own lexical.json it would be that index.
    await everyFile(at('engine'), [at('engine2')], searchIn(at('engine')));
  } finally {
    await engine.close();
  }
});
