/** @file A student that goes on learning from new data: what is trained on, measured, planned, resumed and refused. */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ConfigInput } from '../../config/config.ts';
import { parseConfig } from '../../config/parse.ts';
import { readConfig } from '../../config/yaml/read-yaml.ts';
import { type ContinuedOptions, continuedDataset } from '../../data/continued/continued.ts';
import { openDataset } from '../../data/open.ts';
import { distill, planRun, type RunReport } from '../../pipelines/distill.ts';
import { makeWorld, type World } from './world.ts';

let world: World;
let old: string;
let fresh: string;
let first: RunReport;
let tower: RunReport;

/** Queries of a range of the world's, judged, as a data set with the world's documents or without any. */
function part(name: string, corpus: boolean, ranges: Record<string, [number, number]>): string {
  const folder = join(world.folder, name);
  mkdirSync(join(folder, 'qrels'), { recursive: true });
  if (corpus) cpSync(join(world.data, 'corpus.jsonl'), join(folder, 'corpus.jsonl'));
  const lines = readFileSync(join(world.data, 'queries.jsonl'), 'utf8').trim().split('\n');
  const own = Object.values(ranges).flatMap(([from, to]) => lines.slice(from, to));
  writeFileSync(join(folder, 'queries.jsonl'), `${own.join('\n')}\n`);
  for (const [split, [from, to]] of Object.entries(ranges)) {
    const rows = Array.from({ length: to - from }, (_, i) => `q${from + i}\td${from + i}\t1\n`);
    writeFileSync(join(folder, 'qrels', `${split}.tsv`), `query-id\tcorpus-id\tscore\n${rows.join('')}`);
  }
  return folder;
}

const quick: ConfigInput['evaluate'] = { bm25: false, teacher: false };
const options = (name: string, more: Partial<ConfigInput> = {}): ConfigInput => ({
  output: join(world.folder, 'runs', name),
  cache: join(world.folder, 'cache'),
  data: { path: old },
  student: { model: world.student },
  candidates: { source: 'bm25', count: 6 },
  losses: [{ kind: 'info-nce' }],
  evaluate: quick,
  ...more,
  train: { steps: 6, batchSize: 8, candidates: 4, learningRate: 1e-3, warmupSteps: 2, threads: 1, ...more.train },
});
const frozen = (name: string, more: Partial<ConfigInput> = {}) =>
  options(name, { pipeline: 'inherit-documents', embedder: { model: world.dualEncoder }, ...more });

beforeAll(async () => {
  world = await makeWorld();
  old = part('old', true, { train: [0, 40], dev: [80, 85], test: [90, 100] });
  fresh = part('fresh', false, { train: [40, 70], dev: [85, 90], test: [100, 110] });
  first = await distill(options('first'));
  tower = await distill(frozen('tower'));
});

const going = (from: RunReport, more: object = {}) => ({ from: from.checkpoint, data: fresh, ...more });
const notesOf = () => {
  const notes: string[] = [];
  return { notes, watch: { onProgress: (p: { note?: string }) => p.note !== undefined && notes.push(p.note) } };
};
const model = (report: RunReport): Buffer => readFileSync(join(report.checkpoint, 'onnx', 'model.onnx'));

describe('both towers', () => {
  test('old queries are replayed, embeddings matched, and each part is measured before and after', async () => {
    const { notes, watch } = notesOf();
    const report = await distill(options('more', { continue: going(first) }), watch);
    expect(notes.some((n) => n.startsWith('30 new training queries, 30 of 40 old ones replayed; 120 documents'))).toBe(
      true,
    );
    expect(notes.some((n) => n.includes('60 training queries with'))).toBe(true);
    const parts = report.continued ?? {};
    expect(Object.entries(parts).map(([split, { queries }]) => [split, queries])).toEqual([
      ['old dev', 5],
      ['old test', 10],
      ['new dev', 5],
      ['new test', 10],
    ]);
    // What it was before is the checkpoint as its own run measured it.
    const before = first.systems.find((s) => s.name === 'student')?.metrics['ndcg@10'];
    expect(parts['old test'].values['student before training']).toBeCloseTo(before as number, 6);
    const own = report.systems.find((s) => s.name === 'student')?.metrics['ndcg@10'];
    expect(parts['new test'].values.student).toBeCloseTo(own as number, 6);
    const written = JSON.parse(readFileSync(report.report, 'utf8'));
    expect(written.notes.some((n: string) => n.startsWith('nDCG@10 before and after going on: old dev '))).toBe(true);
    expect(written.log[0].terms).toHaveLength(2);
    expect(report.config.losses.map((l) => l.kind)).toEqual(['info-nce', 'embedding-matching']);
    expect(report.config.embedder).toMatchObject({ model: first.checkpoint });
    // Nothing has moved in the first step: the distance to the checkpoint is that of rounding.
    expect(written.log[0].terms[1]).toBeLessThan(1e-3);
    expect(written.log.at(-1).terms[1]).toBeGreaterThan(1e-3);
  });

  test('a dry run plans it, and a second run does nothing again', async () => {
    const config = options('more', { continue: going(first) });
    const plan = await planRun(config);
    expect(plan.filter((s) => s.status !== 'reused').map((s) => s.stage)).toEqual([]);
    expect((await distill(config)).stages.training).toBe('reused');
    const other = await planRun(options('more', { continue: going(first, { replay: 0.2 }) }));
    expect(other.find((s) => s.stage === 'training')?.status).not.toBe('reused');
  });

  test('stopped and resumed, the bytes are those of one run', async () => {
    const whole = await distill(options('whole', { continue: going(first), train: { steps: 8 } }));
    const stop = new AbortController();
    const config = options('stopped', { continue: going(first), train: { steps: 8 } });
    await expect(
      distill(config, {
        signal: stop.signal,
        onProgress: (p) => p.stage === 'train' && p.done === 3 && stop.abort(new Error('stopped')),
      }),
    ).rejects.toThrow('stopped');
    expect(model(await distill(config)).equals(model(whole))).toBe(true);
  });

  test('matching holds the student to the checkpoint', async () => {
    const distance = async (match: number) => {
      const continued = going(first, { match });
      const report = await distill(options(`match-${match}`, { continue: continued, train: { steps: 20 } }));
      const { log } = JSON.parse(readFileSync(report.report, 'utf8'));
      return log.at(-1).terms[1] as number;
    };
    const [loose, held] = [await distance(0.001), await distance(50)];
    expect(held).toBeLessThan(0.5 * loose);
    const config = parseConfig(options('x', { continue: going(first, { match: 0 }) }));
    expect(config.losses.map((l) => l.kind)).toEqual(['info-nce']);
    expect(config.continue?.target).toBe('none');
  });
});

describe('a query tower over frozen documents', () => {
  test('documents stay, queries are matched to the checkpoint', async () => {
    const report = await distill(frozen('tower-more', { continue: going(tower) }));
    expect(report.config.continue).toMatchObject({ target: 'checkpoint', start: world.student });
    expect(report.config.embedder).toMatchObject({ model: world.dualEncoder });
    const { log } = JSON.parse(readFileSync(report.report, 'utf8'));
    expect(log[0].terms[1]).toBeLessThan(1e-3);
    const before = tower.systems.find((s) => s.name === 'student')?.metrics['ndcg@10'];
    expect(report.continued?.['old test'].values['student before training']).toBeCloseTo(before as number, 6);
    expect(report.systems.map((s) => s.name)).toEqual(['student before training', 'student']);
    // Its learned map into the documents' space is a weight like others, also the second time.
    const again = await distill(frozen('tower-again', { continue: going(report), train: { steps: 1 } }));
    expect(again.continued?.['new test'].values['student before training']).toBeCloseTo(
      report.continued?.['new test'].values.student as number,
      6,
    );
  });

  test("a config's own matching stays", async () => {
    const config = parseConfig(frozen('own', { losses: undefined, continue: going(tower) }));
    expect(config.continue?.target).toBe('embedder');
    expect(config.losses.map((l) => l.kind)).toEqual(['info-nce', 'embedding-matching']);
    // Reading the options again changes nothing.
    expect(parseConfig(config)).toEqual(config);
  });

  test('a checkpoint over other documents is refused', async () => {
    const embedder = { model: world.dualEncoder, documentTokens: 12 };
    await expect(distill(frozen('limits', { embedder, continue: going(tower) }))).rejects.toThrow(
      'searches the documents of another embedder',
    );
    await expect(distill(frozen('towers', { continue: going(first) }))).rejects.toThrow(
      'encodes queries and documents and the config trains a query tower over frozen documents',
    );
  });
});

describe('refusals', () => {
  test('what cannot be continued', async () => {
    const refused = (more: Partial<ConfigInput>) => expect(() => parseConfig(options('x', more)));
    refused({ pipeline: 'chain', continue: going(first) }).toThrow("'pipeline: chain' makes several students");
    refused({
      pipeline: 'static-queries',
      embedder: { model: world.dualEncoder },
      student: { static: {} },
      continue: going(first),
    }).toThrow('a static student cannot be continued');
    refused({ output: join(first.checkpoint, '..'), continue: going(first) }).toThrow('the run would write over');
    const missing = { from: join(world.folder, 'nowhere'), data: fresh };
    await expect(distill(options('x', { continue: missing }))).rejects.toThrow(/nowhere/);
    await expect(
      distill(options('x', { continue: { from: first.checkpoint, data: join(world.folder, 'none') } })),
    ).rejects.toThrow('there is no data');
    await expect(
      distill(options('x', { data: { path: join(world.folder, 'gone') }, continue: going(first) })),
    ).rejects.toThrow(/there is no old data .*gone, of which queries are replayed/);
  });

  test('a static checkpoint and one with another tokenizer', async () => {
    const table = join(world.folder, 'table');
    cpSync(first.checkpoint, table, { recursive: true });
    const file = join(table, 'distill.json');
    const made = JSON.parse(readFileSync(file, 'utf8'));
    writeFileSync(file, JSON.stringify({ ...made, config: { student: { kind: 'static', towers: 'query' } } }));
    await expect(distill(options('x', { continue: { from: table, data: fresh } }))).rejects.toThrow(
      'is a static student, which cannot be continued',
    );
    writeFileSync(file, 'not JSON');
    await expect(distill(options('x', { continue: { from: table, data: fresh } }))).rejects.toThrow('is not JSON');
    rmSync(file);
    const tokenizer = join(table, 'tokenizer.json');
    const { model: vocabulary, ...rest } = JSON.parse(readFileSync(tokenizer, 'utf8'));
    const words = Object.keys(vocabulary.vocab);
    const swapped = Object.fromEntries(words.map((w, i) => [i === 20 ? words[21] : i === 21 ? words[20] : w, i]));
    writeFileSync(tokenizer, JSON.stringify({ ...rest, model: { ...vocabulary, vocab: swapped } }));
    await expect(distill(options('x', { continue: { from: table, data: fresh } }))).rejects.toThrow(
      'has another tokenizer than',
    );
  });

  test('BM25 of a checkpoint is not carried on silently', async () => {
    const hybrid = join(world.folder, 'hybrid');
    cpSync(first.checkpoint, hybrid, { recursive: true });
    writeFileSync(join(hybrid, 'lexical.json'), '{}');
    const report = await distill(options('hybrid', { continue: { from: hybrid, data: fresh }, train: { steps: 1 } }));
    expect(report.warnings.some((w) => w.includes('the new checkpoint is the dense student alone'))).toBe(true);
  });

  test('the command gives both or neither', async () => {
    const file = join(world.folder, 'config.yaml');
    writeFileSync(file, JSON.stringify(options('yaml')));
    const config = readConfig(file, [`continue.from=${first.checkpoint}`, `continue.data=${fresh}`]);
    expect(config.student).toMatchObject({ kind: 'model', model: first.checkpoint });
    expect(config.continue).toMatchObject({ replay: 0.5, match: 2, target: 'checkpoint' });
  });
});

describe('the data of both', () => {
  const settings: ContinuedOptions = {
    splits: { train: 'train', dev: 'dev', test: 'test' },
    replay: 0.5,
    unlabelled: true,
    seed: 0,
  };
  const both = async (more: Partial<ContinuedOptions> = {}, data = fresh) => {
    const before = await openDataset(old);
    return continuedDataset(before, await openDataset(data, { corpus: before.documents }), { ...settings, ...more });
  };

  test('splits and the number of old queries', async () => {
    const whole = await both();
    expect(whole.splits).toEqual(['train', 'old test', 'new test', 'old dev', 'new dev', 'dev', 'test']);
    expect(whole.qrels('train').size).toBe(60);
    expect(whole.qrels('dev').size).toBe(10);
    expect([...whole.qrels('test').keys()]).toEqual([...whole.qrels('new test').keys()]);
    expect((await both({ replay: 0 })).qrels('train').size).toBe(30);
    // 10 of 40 are a quarter of what is trained on with 30 new ones.
    expect((await both({ replay: 0.25 })).qrels('train').size).toBe(40);
    expect((await both({ replay: 0.9 })).qrels('train').size).toBe(70);
    const drawn = (seed: number) => both({ seed, replay: 0.25 }).then((d) => [...d.qrels('train').keys()].sort());
    expect(await drawn(1)).toEqual(await drawn(1));
    expect(await drawn(1)).not.toEqual(await drawn(2));
  });

  test('an old query that is not replayed is not trained on as one without a judgement', async () => {
    const whole = await both({ replay: 0 });
    expect(whole.queries.length).toBe(30 + 5 + 10 + 5 + 10);
  });

  test('documents of the new data count, a query with another text is refused', async () => {
    const changed = join(world.folder, 'changed');
    cpSync(fresh, changed, { recursive: true });
    writeFileSync(
      join(changed, 'corpus.jsonl'),
      `${JSON.stringify({ _id: 'd41', title: '', text: 'another text' })}\n${JSON.stringify({ _id: 'n1', text: 'new' })}\n`,
    );
    const whole = await both({}, changed);
    expect(whole.documents.length).toBe(121);
    expect(whole.documents.text(41)).toBe('another text');
    expect(whole.documents.text(120)).toBe('new');
    expect(whole.notes?.at(-1)).toContain('121 documents, 1 of them as the new data has them');
    writeFileSync(join(changed, 'queries.jsonl'), `${JSON.stringify({ _id: 'q3', text: 'other words' })}\n`);
    writeFileSync(join(changed, 'qrels', 'train.tsv'), 'query-id\tcorpus-id\tscore\nq3\td3\t1\n');
    for (const split of ['dev', 'test']) rmSync(join(changed, 'qrels', `${split}.tsv`));
    await expect(both({}, changed)).rejects.toThrow("1 query ids of changed have another text in old, e.g. 'q3'");
  });

  test('queries of the old test split among the new training queries are said', async () => {
    const leak = part('leak', false, { train: [95, 105] });
    const whole = await both({}, leak);
    expect(whole.warnings?.map((w) => w.code)).toContain('data.continued-leak');
    expect(whole.qrels('test').size).toBe(10);
    const nothing = part('nothing', false, { test: [100, 110] });
    await expect(both({ unlabelled: false }, nothing)).rejects.toThrow('there is nothing new to learn');
  });
});
