/** @file `distill evaluate` and `distill compare` from end to end on a tiny world. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { evaluate } from '../../checkpoints/evaluate.ts';
import { main } from '../../cli/program.ts';
import { openBeir } from '../../data/beir.ts';
import { evaluateRun } from '../../evaluation/metrics/evaluate.ts';
import { readRun } from '../../evaluation/metrics/run-file.ts';
import { compareRuns } from '../../evaluation/systems/compare-runs.ts';
import { makeWorld, type World } from '../pipelines/world.ts';
import { pythonWith } from '../python.ts';

let world: World;
const at = (name: string): string => join(world.folder, name);
const setup = () => ({ student: world.student, data: world.data, cache: at('cache'), samples: 200 });

beforeAll(async () => {
  world = await makeWorld();
  copyFileSync(join(world.student, 'onnx', 'model.onnx'), join(world.student, 'onnx', 'model_fp16.onnx'));
});
afterAll(() => rmSync(world.folder, { recursive: true }));

const run = async (...argv: string[]): Promise<{ status: number; out: string; err: string }> => {
  const said = { out: '', err: '' };
  const screen = (to: 'out' | 'err') => ({
    write: (s: string) => {
      said[to] += s;
    },
  });
  const status = await main(argv, { out: screen('out'), err: screen('err') }, new AbortController().signal);
  return { status, ...said };
};

test('the run file, read back, gives the figures of the JSON file; pytrec_eval agrees', async () => {
  await evaluate({ ...setup(), run: at('run.trec'), json: at('plain.json'), cost: false });
  const json = JSON.parse(readFileSync(at('plain.json'), 'utf8'));
  const qrels = (await openBeir(world.data)).qrels('test');
  const { means } = evaluateRun(await readRun(at('run.trec')), qrels, ['ndcg@10', 'mrr@10', 'recall@100', 'map']);
  for (const [m, v] of Object.entries(means)) expect(json[m], m).toBe(v);
  const python = pythonWith('pytrec_eval');
  if (!python) return;
  const code = `
import json, sys, pytrec_eval
run, qrels = {}, {}
for l in open(sys.argv[1]):
    q, _, d, _, s, _ = l.split(); run.setdefault(q, {})[d] = float(s)
for l in list(open(sys.argv[2]))[1:]:
    q, d, g = l.split(); qrels.setdefault(q, {})[d] = int(g)
r = pytrec_eval.RelevanceEvaluator(qrels, {'ndcg_cut.10', 'recall.100', 'map'}).evaluate(run)
print(json.dumps({m: sum(v[m] for v in r.values()) / len(qrels) for m in ['ndcg_cut_10', 'recall_100', 'map']}))`;
  const theirs = JSON.parse(
    execFileSync(python, ['-c', code, at('run.trec'), join(world.data, 'qrels', 'test.tsv')]).toString(),
  );
  expect(json['ndcg@10']).toBeCloseTo(theirs.ndcg_cut_10, 6);
  expect(json['recall@100']).toBeCloseTo(theirs.recall_100, 6);
  expect(json.map).toBeCloseTo(theirs.map, 6);
});

test('compared with a cross-encoder: comparison, fidelity, differences with texts, diagnostics, cost, report', async () => {
  const report = await evaluate({
    ...setup(),
    teacher: world.crossEncoder,
    depth: 20,
    costQueries: 2,
    html: at('report.html'),
  });
  expect(report.systems.map((s) => s.name)).toEqual(['student', "teacher on the student's candidates"]);
  const [same] = report.comparisons ?? [];
  expect(same.on).toBe('the same candidates');
  const ndcg = same.rows[0];
  expect(ndcg.retention.value).toBeCloseTo(ndcg.a / ndcg.b, 12);
  expect(ndcg.retention.low).toBeLessThanOrEqual(ndcg.retention.value);
  expect(report.sentences[0]).toMatch(/^keeps [\d.]+ % \[[\d.]+, [\d.]+\] of the teacher's ndcg@10/);
  expect(report.fidelity?.queries).toBe(20);
  expect(report.differences?.worse.concat(report.differences.better)[0].query).toMatch(/from the/);
  expect(report.calibration?.student.ece).toBeLessThan(1);
  expect(report.geometry?.effectiveRank).toBeGreaterThan(1);
  expect(report.geometry?.effectiveRank).toBeLessThanOrEqual(16.001);
  expect(report.cost?.map((c) => [c.name, c.role, c.pairs])).toEqual([
    ['student fp32', 'student', undefined],
    ['student fp16', 'student', undefined],
    ['teacher', 'teacher', 20],
  ]);
  expect(report.speedFactor).toBeGreaterThan(1);
  expect(report.matryoshka?.map((m) => m.dimensions)).toEqual([16]);
  expect(readFileSync(at('report.html'), 'utf8')).toContain('Where they disagree');
  // The same seed gives the same figures.
  const again = await evaluate({ ...setup(), teacher: world.crossEncoder, depth: 20, cost: false });
  expect(again.comparisons).toEqual(report.comparisons);
});

test('prompts and columns are options: they give what a folder that states them and known names give', async () => {
  const stated = at('stated');
  cpSync(world.student, stated, { recursive: true });
  const prompts = { query: 'from the ', document: 'This ' };
  writeFileSync(join(stated, 'config_sentence_transformers.json'), JSON.stringify({ prompts }));
  const rows = (query: string, document: string, grade: string): string =>
    [
      [query, document, grade].join(),
      ...['lamp', 'chair', 'tent', 'piano'].map((t, i) => `${t} from the attic,This ${t} is red,${Number(i < 3)}`),
    ].join('\n');
  writeFileSync(at('known.csv'), rows('query', 'document', 'label'));
  writeFileSync(at('other.csv'), rows('what', 'text', 'fits'));
  const options = ['--split', 'train', '--no-cost', '--json', at('options.json')];
  const metrics = () => JSON.parse(readFileSync(at('options.json'), 'utf8')).systems;
  const said = (args: string[]) => run('evaluate', ...args, ...options);
  expect((await said(['--student', stated, '--teacher', stated, '--data', at('known.csv')])).status).toBe(0);
  const right = metrics();
  const columns = ['--columns', 'query=what, document=text,label=fits'];
  const given = ['--query-prompt', prompts.query, '--document-prompt', '{text}'];
  const teacher = ['--teacher-query-prompt', prompts.query, '--teacher-document-prompt', prompts.document];
  const own = ['--student', world.student, '--teacher', world.student, '--data', at('other.csv')];
  expect(
    await said([...own, ...columns, '--query-prompt', prompts.query, '--document-prompt', 'This ', ...teacher]),
  ).toMatchObject({ status: 0 });
  expect(metrics()).toEqual(right);
  expect(await said([...own, ...columns, ...given])).toMatchObject({ status: 0 });
  const refused = await said([
    ...own.slice(0, 2),
    '--teacher',
    world.crossEncoder,
    '--data',
    at('known.csv'),
    ...teacher,
  ]);
  expect(refused).toMatchObject({
    status: 2,
    err: expect.stringContaining('is a cross-encoder, which encodes query and document together; leave out'),
  });
  for (const [names, message] of [
    [
      'query',
      "--columns has 'query': expected ROLE=COLUMN separated by commas, with the roles query, document, negatives",
    ],
    ['query=a,query=b', "--columns names 'query' twice"],
    ['querry=a', 'Unrecognized key: "querry"'],
    ['query=nowhere', "no column 'nowhere', which data.columns names"],
  ])
    expect(await said([...own, '--columns', names])).toMatchObject({
      status: 2,
      err: expect.stringContaining(message),
    });
});

test('other candidates: both re-rank them, and the student searches by itself', async () => {
  const report = await evaluate({
    ...setup(),
    teacher: world.crossEncoder,
    candidates: 'bm25',
    depth: 10,
    cost: false,
  });
  expect(report.systems.map((s) => s.name)).toEqual([
    'student',
    'BM25',
    "teacher on BM25's candidates",
    "student on BM25's candidates",
  ]);
  expect(report.comparisons?.map((c) => c.on)).toEqual(['the same candidates', 'full retrieval']);
  // Re-ranking cannot find what the candidates lack.
  const [, bm25, teacher, student] = report.systems;
  expect(teacher.metrics['recall@100']).toBe(bm25.metrics['recall@100']);
  expect(student.metrics['recall@100']).toBe(bm25.metrics['recall@100']);
});

test('a dual-encoder as teacher searches too; a file of scores can replace a teacher', async () => {
  const dual = await evaluate({ ...setup(), teacher: world.dualEncoder, cost: false });
  expect(dual.comparisons?.map((c) => c.on)).toEqual(['the same candidates', 'full retrieval']);
  const found = await readRun(at('run.trec'));
  const lines = [...found].flatMap(([q, { ids }]) =>
    ids.slice(0, 8).map((d, i) => `${q}\t${d}\t${d === `d${q.slice(1)}` ? 9 : -i}`),
  );
  writeFileSync(at('scores.tsv'), `query-id\tcorpus-id\tscore\n${lines.join('\n')}\n`);
  const given = await evaluate({ ...setup(), teacher: at('scores.tsv'), cost: false });
  const teacher = given.systems.find((s) => s.role === 'teacher');
  expect(teacher?.metrics['ndcg@10']).toBe(teacher?.metrics['recall@10']);
  expect(given.comparisons?.[0].b).toBe('teacher');
});

test('a baseline equal to the student keeps all of it; dtypes are evaluated by name', async () => {
  const report = await evaluate({ ...setup(), baseline: at('run.trec'), dtype: 'fp32,fp16', cost: false });
  for (const c of report.comparisons ?? [])
    for (const r of c.rows) expect([r.retention.value, r.retention.low, r.p]).toEqual([1, 1, 1]);
  expect(report.comparisons).toHaveLength(2);
  await expect(evaluate({ ...setup(), dtype: 'q4', cost: false })).rejects.toThrow(
    /has no model file of dtype 'q4': expected fp32, fp16 or all; name one of these under --dtype/,
  );
});

test('the command prints what is kept, and mistakes cost one sentence and status 2', async () => {
  const common = ['--student', world.student, '--data', world.data];
  const told = await run('evaluate', ...common, '--teacher', at('scores.tsv'), '--no-cost', '--json', at('a.json'));
  expect(told.status).toBe(0);
  expect(told.out).toMatch(/keeps [\d.]+ % \[[\d.]+, [\d.]+\] of the teacher's ndcg@10 \(the same candidates\)/);
  const bad = await run('evaluate', ...common, '--metrics', 'ndgc@10', '--no-cost');
  expect(bad.status).toBe(2);
  expect(bad.err).toContain("no metric is called 'ndgc@10'");
  const none = await run('evaluate', ...common, '--candidates', at('nothing.trec'), '--teacher', world.crossEncoder);
  expect(none.status).toBe(2);
  expect(none.err).toContain("expected 'student', 'bm25' or a run file");
});

test('runs side by side: the first is what others are compared with', async () => {
  await evaluate({ ...setup(), student: world.dualEncoder, json: at('b.json'), cost: false });
  const figures = await compareRuns({ runs: [at('a.json'), at('b.json')], html: at('compare.html'), samples: 200 });
  expect(figures.systems.map((s) => s.name)).toContain('b.json: student');
  expect(figures.comparisons?.map((c) => [c.a, c.b])).toEqual([['b.json: student', 'a.json: student']]);
  expect(readFileSync(at('compare.html'), 'utf8')).toContain('b.json: student against a.json: student');
  const told = await run('compare', at('a.json'), at('b.json'));
  expect(told.status).toBe(0);
  expect(told.out).toContain('better/equal/worse');
  expect((await run('compare', at('a.json'))).err).toContain('expected at least two folders or files');
  expect((await run('compare', at('a.json'), world.data)).err).toContain('report.json is not there');
});
