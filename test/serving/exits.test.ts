/** @file A cross-encoder with exits: the verb, its segments against the whole model, what it refuses, and the re-ranker. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Tensor, tensor } from '../../engine/graph/tensor.ts';
import { encodeGraph, loadGraph } from '../../engine/io/onnx-file.ts';
import { cutSegments, HIDDEN, layerCount, PREVIOUS } from '../../engine/passes/segments.ts';
import { Session } from '../../engine/runtime/session.ts';
import { freshModel } from '../../models/new-model.ts';
import { evaluateCascadeFile } from '../../search/evaluate-cascade.ts';
import { makeExits } from '../../search/exits/exits.ts';
import { trainedSplits } from '../../search/exits/lists.ts';
import { cascade } from '../../search/fit-cascade.ts';
import { readCascade, writeCascade } from '../../serving/cascade-file.ts';
import { openCascade, openReranker } from '../../serving/index.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { openExits } from '../../teachers/exits.ts';
import { pairTokens, readFolder } from '../../teachers/reading/describe.ts';
import { distill, documents, makeWorld, queries } from '../cli/world.ts';
import { shared } from '../shared.ts';

let world: string;
const at = (name: string): string => join(world, name);
const texts = { length: 40, text: (i: number) => documents[i].text };
const common = () => ({ teacher: at('three'), data: at('data'), cache: at('cache'), candidates: 12 });

beforeAll(async () => {
  world = await makeWorld();
  vi.stubEnv('XDG_CACHE_HOME', join(world, 'cache-home'));
  const tiny = { hidden: 16, layers: 3, heads: 2, maxLength: 64, vocabulary: 200 };
  await freshModel(at('three'), texts, { ...tiny, kind: 'cross-encoder', seed: 3 });
  await makeExits({ ...common(), layers: [1, 2], calibrate: 'none', output: at('exits') });
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(world, { recursive: true, force: true });
});

const pairs = documents
  .slice(0, 15)
  .map((d) => ({ queryId: '', documentId: '', query: 'open file', document: d.text }));

describe('segments', () => {
  test('run one after the other they are the whole model', async () => {
    const made = await openExits(at('exits'));
    const whole = await crossEncoder(at('three'));
    const [a, b] = [await made.score(pairs), await whole.score(pairs)];
    for (const i of pairs.keys()) expect(a[i]).toBeCloseTo(b[i], 5);
    const all = await made.scoreExits(pairs);
    expect(all).toHaveLength(3);
    expect([...all[2]]).toEqual([...a]);
    expect([...all[0]]).not.toEqual([...all[1]]);
    await made.dispose();
    await whole.dispose();
  });

  test('also through the other doors: as a teacher, and all layers as a re-ranker', async () => {
    const teacher = await crossEncoder(at('exits'));
    const reranker = await openReranker(at('exits'), { exits: 'all' });
    const logits = await reranker.score(
      'open file',
      pairs.map((p) => p.document),
    );
    const scores = await teacher.score(pairs);
    for (const i of pairs.keys()) expect(logits[i]).toBeCloseTo(scores[i], 5);
    expect(teacher.key).toBe(reranker.key);
    await teacher.dispose();
    await reranker.dispose();
  });

  test.skipIf(!shared)('families whose shapes come from vectors before: nothing is computed twice', async () => {
    for (const name of ['bert-script', 'bert-dynamo', 'cross-encoder-dynamo', 'distilbert-dynamo', 'mpnet-script']) {
      const whole = await loadGraph(join(shared as string, 'zoo', name, 'model.onnx'));
      expect(layerCount(whole)).toBe(2);
      const [first, second] = cutSegments(whole, [1]);
      expect(second.graph.inputs.some((v) => v.name === PREVIOUS)).toBe(true);
      // The word table stays in the first segment.
      const rows = (graph: typeof whole) => graph.constants.map((v) => v.constant?.dims[0] ?? 0);
      const words = Math.max(...rows(first.graph));
      expect(
        Math.max(
          0,
          ...second.graph.constants.filter((v) => v.constant?.dims.length === 2).map((v) => v.constant?.dims[0] ?? 0),
        ),
        name,
      ).toBeLessThan(words);
      first.graph.outputs[0].name = HIDDEN;
      const feeds: Record<string, Tensor> = Object.fromEntries(
        whole.inputs.map((v) => [
          v.name,
          tensor(
            'int64',
            [2, 7],
            Array.from({ length: 14 }, (_, i) =>
              v.name === 'input_ids' ? 1 + (i % 9) : v.name === 'attention_mask' ? Number(i < 12) : 0,
            ),
          ),
        ]),
      );
      const run = async (graph: typeof whole, given: typeof feeds) => {
        const session = await Session.load(encodeGraph(graph));
        const found = await session.run(Object.fromEntries(session.inputs.map((n) => [n, given[n]])));
        await session.release();
        return found;
      };
      const expected = Object.values(await run(whole, feeds))[0].data as Float32Array;
      const hidden = Object.values(await run(first.graph, feeds))[0];
      const found = Object.values(await run(second.graph, { ...feeds, [PREVIOUS]: hidden }))[0].data as Float32Array;
      expect(found.length).toBe(expected.length);
      for (let i = 0; i < found.length; i += 3) expect(Math.abs(found[i] - expected[i]), name).toBeLessThan(1e-5);
    }
  });
});

describe('distill exits', () => {
  test('prints each exit, the curve and the promise; the file holds the threshold', async () => {
    const said = await distill(
      ...['exits', at('three'), '--data', at('data'), '--layers', '1,2', '--candidates', '12'],
      ...['--risk', '0.9', '--output', at('printed')],
    );
    expect(said.err).not.toContain('error');
    expect(said.code).toBe(0);
    for (const part of [
      'exit after',
      '1 layers',
      '3 layers',
      'threshold',
      'certified on 4 queries',
      'differ from the whole model',
    ])
      expect(said.out).toContain(part);
    const file = JSON.parse(readFileSync(at('printed/exits.json'), 'utf8'));
    expect(file).toMatchObject({ format: 'onnx-distill-exits-1', layers: [1, 2, 3] });
    expect(file.guarantee).toMatchObject({ alpha: 0.9, queries: 4, certified: true, against: 'labels' });
    const early = await openReranker(at('printed'));
    expect(early.exits?.guarantee).toContain('compared with all 3 layers, a query loses on average at most 0.9');
    const { scores, layers } = (await early.exits?.score(
      'open file',
      pairs.map((p) => p.document),
    )) ?? { scores: [], layers: 0 };
    expect(scores).toHaveLength(15);
    expect(layers).toBeLessThanOrEqual(3 * 15);
    await early.dispose();
  });

  test('too few queries: it says how many are needed, and all layers are run', async () => {
    const report = await makeExits({ ...common(), layers: [2], risk: 0.01, output: at('few') });
    expect(report.guarantee).toBe(
      'nothing could be certified with 4 queries: a risk of 0.01 with a confidence of 90 % needs at least 238; all 3 layers are run',
    );
    expect(report.threshold).toBe(Number.POSITIVE_INFINITY);
    expect(report.difference).toBeLessThan(1e-5);
    expect(JSON.parse(readFileSync(at('few/exits.json'), 'utf8')).threshold).toBe('all');
  });

  test('a second call scores nothing again and writes the same files', async () => {
    const units: string[] = [];
    await makeExits(
      { ...common(), layers: [2], risk: 0.01, output: at('again') },
      { onProgress: (p) => p.note === undefined && units.push(p.stage) },
    );
    expect(units.filter((s) => s === 'read states')).toEqual([]);
    for (const name of ['onnx/segment-1.onnx', 'onnx/segment-2.onnx', 'exits.json'])
      expect(readFileSync(at(`again/${name}`)).equals(readFileSync(at(`few/${name}`))), name).toBe(true);
  });

  test('trained layers bring earlier exits nearer, and the state of the training is gone', async () => {
    const options = { ...common(), layers: [1], calibrate: 'none' as const };
    const frozen = await makeExits({ ...options, output: at('frozen') });
    const trained = await makeExits({ ...options, trainTrunk: 40, output: at('trained') });
    expect(trained.difference).toBeUndefined();
    expect(trained.kept).toBeGreaterThan(0.5);
    expect(trained.exits.map((e) => e.layers)).toEqual(frozen.exits.map((e) => e.layers));
    expect(existsSync(at('trained.training'))).toBe(false);
    const opened = await openExits(at('trained'));
    expect((await opened.score(pairs)).every(Number.isFinite)).toBe(true);
    await opened.dispose();
  });

  test('layers, models and options that do not fit are refused', async () => {
    const run = (options: object) => makeExits({ ...common(), calibrate: 'none', output: at('none'), ...options });
    await expect(run({ layers: [3] })).rejects.toThrow(
      'exits after the layers [3]: expected numbers from 1 to 2, ascending',
    );
    await expect(run({ layers: [2, 1] })).rejects.toThrow('exits after the layers [2,1]');
    await expect(run({ teacher: at('cross') })).rejects.toThrow('expected a model of two layers or more');
    await expect(run({ teacher: at('dual') })).rejects.toThrow('logits');
    await expect(run({ risk: 1 })).rejects.toThrow('--risk 1: expected a number above 0 and below 1');
    await expect(run({ queries: 0 })).rejects.toThrow('--queries 0');
    await expect(run({ calibrate: 'nothing' })).rejects.toThrow('nothing');
    mkdirSync(at('other'));
    writeFileSync(at('other/notes.txt'), 'mine');
    await expect(run({ output: at('other') })).rejects.toThrow('holds something else');
    expect(existsSync(at('none'))).toBe(false);
    const verb = await distill('exits', at('three'), '--data', at('data'), '--output', at('none'), '--layers', '1,x');
    expect([verb.code, verb.err]).toEqual([2, expect.stringContaining('numbers of layers')]);
  });
});

test.each([undefined, 1])(
  'texts are read as the teacher reads them: case, prompt and length (train-trunk %s)',
  async (trainTrunk) => {
    const [asked, output] = [at('asked'), at(`asked-exits-${trainTrunk}`)];
    cpSync(at('three'), asked, { recursive: true });
    const json = JSON.parse(readFileSync(join(asked, 'tokenizer.json'), 'utf8'));
    json.normalizer.lowercase = false;
    writeFileSync(join(asked, 'tokenizer.json'), JSON.stringify(json));
    writeFileSync(
      join(asked, 'sentence_bert_config.json'),
      JSON.stringify({ do_lower_case: true, max_seq_length: 24 }),
    );
    writeFileSync(
      join(asked, 'config_sentence_transformers.json'),
      JSON.stringify({ model_type: 'CrossEncoder', prompts: { find: 'open the ' }, default_prompt_name: 'find' }),
    );
    writeFileSync(
      join(asked, 'distill.json'),
      JSON.stringify({ config: { data: 'x', split: 'train', dev: 'chosen' } }),
    );
    expect(await trainedSplits(asked)).toEqual({ train: 'train', dev: 'chosen' });
    await makeExits({ ...common(), teacher: asked, layers: [1, 2], calibrate: 'none', output, trainTrunk });
    const [own, made] = [await readFolder(asked, {}), await readFolder(join(output, 'onnx/segment-1.onnx'), {})];
    const pair = { query: 'Open FILE', document: pairs[0].document.repeat(4).toUpperCase() };
    expect([...pairTokens(made)(pair).ids]).toEqual([...pairTokens(own)(pair).ids]);
    expect([...pairTokens(made)(pair).ids]).not.toEqual([...own.tokenizer.encodePair(pair.query, pair.document).ids]);
    if (trainTrunk) return;
    const [whole, reranker] = [await openReranker(asked), await openReranker(output)];
    const [a, b] = [await whole.score(pair.query, [pair.document]), await reranker.score(pair.query, [pair.document])];
    expect(b[0]).toBeCloseTo(a[0], 5);
    expect(reranker.key).not.toBe((await openExits(output, { prompts: { query: '' } })).key);
    for (const one of [whole, reranker]) await one.dispose();
  },
);

describe('a cascade over a teacher with exits', () => {
  test('the policy says how many layers; what is served is what evaluation simulates', async () => {
    const options = { student: at('dual'), teacher: at('exits'), data: at('data'), cache: at('cache'), candidates: 20 };
    const report = await cascade({ ...options, output: at('cascade.json'), calibrate: 'train', risk: 0.8 });
    expect(report.certified).toBe(true);
    expect(report.layers).toBeLessThanOrEqual(3);
    const content = await readCascade(at('cascade.json'));
    await writeCascade(at('early.json'), {
      ...content,
      policy: { ...content.policy, threshold: Number.NEGATIVE_INFINITY, exits: 0.3 },
    });
    await distill('index', at('dual'), '--data', at('data'), '--output', at('index'), '--codec', 'float32');
    const figures = await evaluateCascadeFile({
      cascade: at('early.json'),
      data: at('data'),
      cache: at('cache'),
      cost: false,
      html: at('early.html'),
    });
    expect(figures.pairs).toBe(20);
    expect(figures.layers).toBeLessThan(3);
    expect(readFileSync(at('early.html'), 'utf8')).toContain('s a pair');
    const opened = await openCascade(at('early.json'), { index: at('index') });
    let layers = 0;
    for (const q of queries.slice(20, 24)) layers += (await opened.search(q.text)).layers ?? 0;
    expect(layers / (4 * 20)).toBeCloseTo(figures.layers as number, 6);
    await opened.close();
    // Without `exits` in the policy all layers are run, whatever the folder's own threshold is.
    await writeCascade(at('whole.json'), {
      ...content,
      policy: { ...content.policy, threshold: Number.NEGATIVE_INFINITY, exits: undefined },
    });
    const whole = await openCascade(at('whole.json'), { index: at('index') });
    expect(await whole.search('open file')).toMatchObject({ pairs: 20, layers: 60 });
    await whole.close();
  });
});

describe('opening a folder with exits', () => {
  test('exits.json of another form, and segments that are missing or others, are refused', async () => {
    const text = readFileSync(at('exits/exits.json'), 'utf8');
    const wrong: [string, string, string][] = [
      ['exits-1"', 'exits-9"', 'format'],
      ['"layers": [\n  1,', '"layers": [\n  2,', 'layers: not ascending'],
      ['"threshold": "all"', '"threshold": -1', 'threshold'],
      ['"threshold": "all"', '"threshold": "all", "more": 1', 'more'],
      ['{', '', 'not JSON'],
    ];
    const copy = mkdtempSync(join(tmpdir(), 'exits-'));
    const { cpSync } = await import('node:fs');
    cpSync(at('exits'), copy, { recursive: true });
    for (const [from, to, why] of wrong) {
      expect(text).toContain(from);
      writeFileSync(join(copy, 'exits.json'), text.replace(from, to));
      await expect(openReranker(copy)).rejects.toThrow(why);
    }
    writeFileSync(join(copy, 'exits.json'), text);
    const second = readFileSync(join(copy, 'onnx/segment-2.onnx'));
    writeFileSync(join(copy, 'onnx/segment-2.onnx'), readFileSync(at('three/onnx/model.onnx')));
    await expect(openReranker(copy)).rejects.toThrow('expected the input previous and the outputs hidden and logits');
    rmSync(join(copy, 'onnx/segment-2.onnx'));
    await expect(openReranker(copy)).rejects.toThrow('there is no file');
    writeFileSync(join(copy, 'onnx/segment-2.onnx'), second);
    await expect(openReranker(copy, { exits: -1 })).rejects.toThrow("'exits' is -1");
    await expect(openReranker(copy, { label: 1 })).rejects.toThrow("'label' is given");
    await expect(openReranker(at('three'), { exits: 'all' })).rejects.toThrow('has none');
    rmSync(copy, { recursive: true });
  });

  test('documents whose place is settled leave: the mean of layers is between the first exit and all', async () => {
    const reranker = await openReranker(at('exits'), { exits: 0.2 });
    const found = await reranker.exits?.score(
      'open file',
      documents.map((d) => d.text),
    );
    expect(found?.layers).toBeGreaterThanOrEqual(40);
    expect(found?.layers).toBeLessThan(120);
    const first = await openReranker(at('exits'), { exits: 0 });
    expect((await first.exits?.score('open file', ['a file', 'a server']))?.layers).toBe(2);
    await reranker.dispose();
    await first.dispose();
  });
});
