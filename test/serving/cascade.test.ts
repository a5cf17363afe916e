/** @file Cascades: the verbs on a small world, the file and what it refuses, the runtime, and the watch over the stream. */
import { cpSync, existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { sealed, unsealed } from '../../common/sealed.ts';
import { Random } from '../../math/random.ts';
import { freshModel } from '../../models/new-model.ts';
import { evaluateCascadeFile } from '../../search/evaluate-cascade.ts';
import { cascade } from '../../search/fit-cascade.ts';
import { readCascade, writeCascade } from '../../serving/cascade-file.ts';
import { DriftWatch } from '../../serving/drift-watch.ts';
import { openCascade, openIndex, openReranker } from '../../serving/index.ts';
import { distill, documents, jsonl, makeWorld, queries } from '../cli/world.ts';

let world: string;
const at = (name: string): string => join(world, name);

/** More queries than the small world has, judged in a split of their own. */
const MANY = 160;
const many = Array.from({ length: MANY }, (_, i) => ({
  _id: `m${i}`,
  text: documents[i % 40].text
    .split(' ')
    .slice(i % 5, (i % 5) + 3)
    .join(' '),
}));

beforeAll(async () => {
  world = await makeWorld();
  vi.stubEnv('XDG_CACHE_HOME', join(world, 'cache-home'));
  writeFileSync(at('data/queries.jsonl'), jsonl([...queries, ...many]));
  const judged = (from: number, to: number): string =>
    `query-id\tcorpus-id\tscore\n${many
      .slice(from, to)
      .map((q, i) => `${q._id}\td${(from + i) % 40}\t1\n`)
      .join('')}`;
  writeFileSync(at('data/qrels/dev.tsv'), judged(0, 100));
  writeFileSync(at('data/qrels/test.tsv'), judged(100, 160));
  expect((await distill('index', at('dual'), '--data', at('data'), '--output', at('index'))).code).toBe(0);
  await cascade({ ...common(), output: at('cascade.json'), calibrate: 'dev', risk: 0.2, confidence: 0.9 });
});
afterAll(() => {
  vi.unstubAllEnvs();
  rmSync(world, { recursive: true, force: true });
});

const common = () => ({
  student: at('dual'),
  teacher: at('cross'),
  data: at('data'),
  index: at('index'),
  candidates: 20,
  cache: at('cache'),
});

describe('distill cascade', () => {
  test("calibrates on the dev split of the student's run, whatever its name, and says so", async () => {
    const [student, output] = [at('named'), at('named.json')];
    cpSync(at('dual'), student, { recursive: true });
    writeFileSync(join(student, 'distill.json'), JSON.stringify({ config: { data: { splits: { dev: 'chosen' } } } }));
    renameSync(at('data/qrels/test.tsv'), at('data/qrels/chosen.tsv'));
    const notes: string[] = [];
    try {
      await cascade({ ...common(), student, output, risk: 0.5 }, { onProgress: (p) => p.note && notes.push(p.note) });
    } finally {
      renameSync(at('data/qrels/chosen.tsv'), at('data/qrels/test.tsv'));
    }
    expect(JSON.parse(readFileSync(output, 'utf8')).data.split).toBe('chosen');
    expect(notes).toContain("the split 'chosen' is read: the model was made with it as dev");
  });

  test('prints the guarantee, the share deferred and pairs a query; the file holds them', async () => {
    const said = await distill(
      ...['cascade', '--student', at('dual'), '--teacher', at('cross'), '--data', at('data')],
      ...['--candidates', '20', '--risk', '0.2', '--output', at('printed.json')],
    );
    expect(said.err).not.toContain('error');
    expect(said.code).toBe(0);
    expect(said.out).toContain(
      'against re-ranking all 20 candidates, a query loses on average at most 0.2 of nDCG@10 (by labels) with a confidence of 90 %, certified on 50 queries',
    );
    expect(said.out).toMatch(/deferred {3}\d+\.\d % of the queries/);
    expect(said.out).toMatch(/pairs {6}\d+\.\d of 20 a query/);
    const file = await readCascade(at('printed.json'));
    expect(file.guarantee).toMatchObject({ alpha: 0.2, certified: true, against: 'labels', queries: 50 });
    expect(file.student.path).toBe(at('dual'));
    expect(file.policy.depths).toEqual([5, 10, 20]);
    expect(file.calibration.needs).toHaveLength(50);
  });

  test('the same seed gives the same file, another one another half', async () => {
    const text = (name: string): string => readFileSync(at(name), 'utf8');
    const again = async (name: string, seed: number) =>
      cascade({ ...common(), output: at(name), calibrate: 'dev', risk: 0.2, confidence: 0.9, seed });
    await again('same.json', 0);
    await again('other.json', 1);
    expect(text('same.json')).toBe(text('cascade.json'));
    expect(text('other.json')).not.toBe(text('cascade.json'));
  });

  test('too few queries: says how many are needed, and re-ranks everything', async () => {
    const report = await cascade({ ...common(), output: at('few.json'), calibrate: 'dev', risk: 0.001 });
    expect(report.certified).toBe(false);
    expect(report.guarantee).toBe(
      'nothing could be certified with 50 queries: a risk of 0.001 with a confidence of 90 % needs at least 2374, and as many to fit on; the teacher re-ranks all 20 candidates of every query',
    );
    expect([report.deferred, report.pairs, report.risk]).toEqual([1, 20, 0]);
    const { policy } = await readCascade(at('few.json'));
    expect([policy.threshold, policy.fusion]).toEqual([Number.NEGATIVE_INFINITY, 0]);
    expect(readFileSync(at('few.json'), 'utf8')).toContain('"threshold":"all"');
  });

  test("without labels: consistency with the teacher's order, of a split or of queries that none judges", async () => {
    const own = await cascade({ ...common(), output: at('own.json'), calibrate: 'dev', risk: 0.3, labels: false });
    expect(own.guarantee).toContain("(by the teacher's order)");
    expect((await readCascade(at('own.json'))).policy.fusion).toBe(0);
    const few = await cascade({ ...common(), output: at('unjudged.json'), calibrate: 'unjudged', risk: 0.3 });
    expect(few.queries).toEqual({ fitted: 4, certified: 4 });
    expect(few.certified).toBe(false);
  });

  test('options and an index that do not fit are refused', async () => {
    const run = (options: object) => cascade({ ...common(), output: at('none.json'), ...options });
    await expect(run({ rule: 'best' })).rejects.toThrow("--rule 'best': expected auto, diff-01");
    await expect(run({ risk: 2 })).rejects.toThrow('--risk 2: expected a number above 0 and below 1');
    await expect(run({ candidates: 5 })).rejects.toThrow('--candidates 5: expected 10 or more');
    await expect(run({ calibrate: 'nothing' })).rejects.toThrow('nothing');
    const index = await openIndex(at('index'));
    const d0 = await index.get('d0');
    await index.remove(['d0']);
    await index.close();
    await expect(run({})).rejects.toThrow('holds 39 documents, and 1 of the 40 of the data are missing');
    const said = await distill('index', at('dual'), '--data', at('data'), '--output', at('index'));
    expect(said.out).toContain('40 documents in');
    expect(said.out).toContain('1 embedded, 39 already in the index');
    expect(d0?.text).toContain('t0');
    expect(existsSync(at('none.json'))).toBe(false);
  });
});

describe('distill evaluate --cascade', () => {
  test('quality with its interval, realised risk, pairs of the teacher, time, and the curve', async () => {
    const report = await evaluateCascadeFile({
      cascade: at('cascade.json'),
      data: at('data'),
      index: at('index'),
      cache: at('cache'),
      costQueries: 3,
      json: at('figures.json'),
      html: at('report.html'),
    });
    expect(report.queries).toBe(60);
    expect(report.quality.low).toBeLessThanOrEqual(report.quality.value);
    expect(report.quality.value).toBeLessThanOrEqual(report.quality.high);
    expect(report.difference.value).toBeCloseTo(report.quality.value - report.teacher, 10);
    expect(report.risk).toBeGreaterThanOrEqual(Math.max(0, -report.difference.value) - 1e-9);
    expect(report.random.map((p) => p.pairs)).toEqual([0, 20]);
    expect(report.random[1].quality).toBeCloseTo(report.curve[report.curve.length - 1].quality, 10);
    expect(report.milliseconds?.queries).toBe(3);
    expect(report.drift.pValue).toBeGreaterThan(0);
    expect(report.drift.deferred).toBeCloseTo(report.deferred, 10);
    expect(report.milliseconds?.p50).toBeGreaterThan(0);
    expect(report.notes).toEqual([]);
    expect(JSON.parse(readFileSync(at('figures.json'), 'utf8')).risk).toBe(report.risk);
    const page = readFileSync(at('report.html'), 'utf8');
    for (const part of ['Deferral to the teacher', 'pairs per query', 'this cascade', 'oracle', report.guarantee])
      expect(page).toContain(part);
    const calibrated = await evaluateCascadeFile({
      cascade: at('cascade.json'),
      data: at('data'),
      index: at('index'),
      cache: at('cache'),
      split: 'dev',
      cost: false,
    });
    expect(calibrated.notes).toEqual(["the split 'dev' is the one that the cascade was calibrated on"]);
  });

  test('as the verb prints it', async () => {
    const said = await distill(
      ...['evaluate', '--cascade', at('cascade.json'), '--data', at('data'), '--index', at('index'), '--no-cost'],
    );
    expect(said.err).not.toContain('error');
    for (const part of ['student alone', 'teacher over all', 'realised    mean loss', 'pairs per query', 'oracle'])
      expect(said.out).toContain(part);
    const none = await distill('evaluate', '--data', at('data'));
    expect([none.code, none.err]).toEqual([2, expect.stringContaining('expected --student or --cascade')]);
  });
});

describe('openCascade', () => {
  test('asks the teacher as the policy says, and serves its order', async () => {
    const content = await readCascade(at('cascade.json'));
    const index = await openIndex(at('index'));
    const reranker = await openReranker(at('cross'));
    const text = many[3].text;
    for (const [threshold, pairs] of [
      [Number.NEGATIVE_INFINITY, 20],
      [Number.POSITIVE_INFINITY, 0],
    ]) {
      await writeCascade(at('edge.json'), { ...content, policy: { ...content.policy, fusion: 0, threshold } });
      const opened = await openCascade(at('edge.json'), { index, teacher: reranker });
      const answer = await opened.search(text, 8);
      expect([answer.pairs, answer.deferred]).toEqual([pairs, pairs > 0]);
      const found = await index.search(text, 20);
      const logits = await reranker.score(
        text,
        found.map((d) => d.text),
      );
      const order = found.map((_, i) => i).sort((a, b) => (pairs ? logits[b] - logits[a] : 0) || a - b);
      expect(answer.documents.map((d) => d.id)).toEqual(order.slice(0, 8).map((i) => found[i].id));
      expect(answer.documents[0].student).toBe(found[order[0]].score);
      expect(answer.documents[0].teacher).toEqual(pairs ? expect.closeTo(logits[order[0]], 5) : undefined);
      // Beyond the candidates the student's order goes on.
      expect((await opened.search(text, 30)).documents).toHaveLength(30);
      expect(opened.drift()).toMatchObject({ served: 2, queries: 2 });
      await opened.close();
    }
    await index.close();
    await reranker.dispose();
  });

  test('in a program: by paths alone, as distill search --cascade', async () => {
    const opened = await openCascade(at('cascade.json'), { index: at('index') });
    const answer = await opened.search('open file', 3);
    expect(answer.documents).toHaveLength(3);
    await opened.close();
    const said = await distill(
      'search',
      at('index'),
      'open file',
      '-k',
      '3',
      '--cascade',
      at('cascade.json'),
      '--json',
    );
    expect(JSON.parse(said.out)).toEqual({ query: 'open file', ...answer });
  });

  test('another teacher, another student, another version: refused', async () => {
    const texts = { length: 40, text: (i: number) => documents[i].text };
    await freshModel(at('cross2'), texts, { hidden: 16, layers: 1, heads: 2, seed: 7, kind: 'cross-encoder' });
    const open = (options: object) => openCascade(at('cascade.json'), { index: at('index'), ...options });
    await expect(open({ teacher: at('cross2') })).rejects.toThrow(
      `the teacher ${at('cross2')} is not the one that ${at('cascade.json')} was certified for (its hash differs)`,
    );
    const content = unsealed(readFileSync(at('cascade.json'), 'utf8')).value as { student: { key: string } };
    const text = JSON.stringify(content);
    const wrong: [string, string | RegExp, string][] = [
      ['cascade-2', 'cascade-1', 'format "onnx-distill-cascade-1", expected onnx-distill-cascade-2'],
      ['"depths":[5,10,20]', '"depths":[5,20,10]', 'policy.depths: not ascending up to the candidates'],
      ['"depths":[5,10,20]', '"depths":[5,10,200]', 'policy.depths'],
      ['"rule":"', '"rule":"my', 'policy.rule'],
      ['"certified":true', '"certified":false', 'nothing is certified, and it is not all'],
      ['"candidates":20', '"candidates":20,"more":1', 'more'],
      ['"needs":[', '"needs":[1e9,', 'calibration.needs: not ascending'],
    ];
    for (const [from, to, why] of wrong) {
      expect(text).toContain(from);
      writeFileSync(at('wrong.json'), sealed(JSON.parse(text.replace(from, to as string))));
      await expect(openCascade(at('wrong.json'), { index: at('index') })).rejects.toThrow(why);
    }
    content.student.key = 'f'.repeat(64);
    writeFileSync(at('wrong.json'), sealed(content));
    await expect(openCascade(at('wrong.json'), { index: at('index') })).rejects.toThrow('the student of the index');
    await expect(openCascade(at('nowhere.json'), { index: at('index') })).rejects.toThrow('there is no file');
    const none = await distill('search', at('index'), 'open', '--count', '0');
    expect([none.code, none.err]).toEqual([2, expect.stringContaining('--count 0')]);
  });
});

describe('the watch over the stream', () => {
  const random = Random.of(4, 'drift');
  const draw = (n: number, shift = 0): number[] => Array.from({ length: n }, () => random.normal() + shift);

  test('a stream like that of calibration brings no warning; one that moves brings one, once', () => {
    const warnings: string[] = [];
    const watch = new DriftWatch(
      draw(400).sort((a, b) => a - b),
      0.5,
      0.01,
      (w) => warnings.push(w),
    );
    for (const need of draw(3000)) watch.see(need);
    expect(warnings).toEqual([]);
    expect(watch.report()).toMatchObject({ served: 3000, queries: 1000, drifted: false });
    for (const need of draw(1500, 0.8)) watch.see(need);
    expect(warnings).toHaveLength(1);
    expect(warnings[0]).toContain('differ from those that the guarantee was certified on');
    expect(watch.report().warning).toBe(warnings[0]);
  });

  test('false alarms over a whole stream are as rare as specified', () => {
    let alarms = 0;
    for (let i = 0; i < 60; i++) {
      const watch = new DriftWatch(
        draw(200).sort((a, b) => a - b),
        0,
        0.05,
      );
      for (const need of draw(1500)) watch.see(need);
      alarms += Number(watch.report().warning !== undefined);
    }
    // 0.05 of 60 is 3; more than 8 has a probability under 0.003.
    expect(alarms).toBeLessThanOrEqual(8);
  });
});
