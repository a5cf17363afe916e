/** @file Metrics: values worked by hand, a second implementation on random runs, and pytrec_eval itself where it is found. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { openBeir } from '../../data/beir.ts';
import type { Qrels } from '../../data/dataset.ts';
import { dropIdenticalIds, evaluateRun, isQueryItself, type Run, rank } from '../../evaluation/metrics/evaluate.ts';
import { metrics, parseMetric } from '../../evaluation/metrics/metrics.ts';
import { formatRun, readRun } from '../../evaluation/metrics/run-file.ts';
import { pythonWith } from '../python.ts';
import { shared } from '../shared.ts';

const qrelsOf = (table: Record<string, Record<string, number>>): Qrels =>
  new Map(Object.entries(table).map(([q, g]) => [q, new Map(Object.entries(g))]));
const runOf = (table: Record<string, Record<string, number>>): Run =>
  new Map(Object.entries(table).map(([q, s]) => [q, { ids: Object.keys(s), scores: Object.values(s) }]));
/** The value of a metric for one query whose documents are found in the order of their grades. */
const ofGrades = (metric: string, found: number[], missed: number[] = []): number =>
  evaluateRun(
    runOf({ q: Object.fromEntries(found.map((_, i) => [`d${i}`, -i])) }),
    qrelsOf({ q: Object.fromEntries([...found, ...missed].map((g, i) => [`d${i}`, g])) }),
    [metric],
  ).means[metric];

test.each([
  ['ndcg@10', [1, 0, 3, 2], [], 0.705891],
  ['ndcg-exp@10', [1, 0, 3, 2], [], 0.616647],
  ['ndcg@10', [0, 1], [], 0.63093],
  ['ndcg@2', [0, 1, 1], [1], 0.386853],
  ['mrr@10', [0, 1], [], 0.5],
  ['mrr@1', [0, 1], [], 0],
  ['map', [1, 0, 1], [1], 0.555556],
  ['map@1', [1, 0, 1], [1], 1 / 3],
  ['recall@2', [1, 0, 1], [1], 1 / 3],
  ['r-cap@2', [1, 0, 1], [1], 1 / 2],
  ['precision@10', [1, 0, 1], [], 0.2],
  ['r-precision', [1, 0, 1], [1], 2 / 3],
  ['success@2', [0, 1, 1], [], 1],
  ['success@1', [0, 1, 1], [], 0],
  ['ndcg', [-1, 0, 2], [], 0.5],
  ['recall@10', [], [1], 0],
  ['ndcg@10', [0], [-2], 0],
] as const)('%s of grades %j with %j not found is %d', (metric, found, missed, expected) => {
  expect(ofGrades(metric, [...found], [...missed])).toBeCloseTo(expected, 5);
});

test('ties go to the higher document id by its bytes, over scores as float32', () => {
  const tied = (ids: string[], relevant: string): number =>
    evaluateRun(runOf({ q: Object.fromEntries(ids.map((d) => [d, 1])) }), qrelsOf({ q: { [relevant]: 1 } }), ['map'])
      .means.map;
  expect(tied(['d1', 'd2', 'd3'], 'd3')).toBe(1);
  expect(tied(['d5', 'd4', 'd3'], 'd3')).toBeCloseTo(1 / 3, 12);
  expect(tied(['d10', 'd9'], 'd9')).toBe(1);
  // Beyond the basic plane UTF-16 and UTF-8 order differently.
  expect(tied(['\u{10000}', '\uffff'], '\u{10000}')).toBe(1);
  expect(rank({ ids: ['a', 'b'], scores: [1.00000001, 1] }).ids).toEqual(['b', 'a']);
  expect(rank({ ids: ['a', 'b'], scores: [1.0000002, 1] }).ids).toEqual(['a', 'b']);
});

test('a document listed twice counts once at its higher score, a missing query 0', () => {
  expect(rank({ ids: ['a', 'b', 'a'], scores: [1, 2, 3] })).toEqual({ ids: ['a', 'b'], scores: Float32Array.of(3, 2) });
  const { means, queryIds } = evaluateRun(
    runOf({ q1: { d: 1 } }),
    qrelsOf({ q1: { d: 1 }, q2: { d: 1 }, q3: { d: 0 } }),
    ['ndcg@10'],
  );
  expect(queryIds).toEqual(['q1', 'q2', 'q3']);
  expect(means['ndcg@10']).toBeCloseTo(1 / 3, 12);
  const relevant = evaluateRun(runOf({ q1: { d: 1 } }), qrelsOf({ q1: { d: 1 }, q3: { d: 0 } }), ['ndcg@10'], {
    queries: 'relevant',
  });
  expect(relevant.means['ndcg@10']).toBe(1);
});

test('a constant score earns no more than chance', () => {
  const ids = Array.from({ length: 100 }, (_, i) => `d${i}`);
  const qrels = qrelsOf(Object.fromEntries(ids.map((d, i) => [`q${i}`, { [d]: 1 }])));
  const run: Run = new Map(ids.map((_, i) => [`q${i}`, { ids, scores: new Float32Array(100) }]));
  expect(evaluateRun(run, qrels, ['mrr']).means.mrr).toBeCloseTo(ids.reduce((s, _, i) => s + 1 / (i + 1), 0) / 100, 9);
});

test('a score that is not a number is refused by name', () => {
  expect(() => evaluateRun(runOf({ q: { d: Number.NaN } }), qrelsOf({ q: { d: 1 } }))).toThrow(
    "the score of document 'd' for query 'q' is not a number",
  );
});

test('a metric that does not exist is refused with the nearest that does', () => {
  expect(() => parseMetric('ndgc@10')).toThrow("no metric is called 'ndgc@10'");
  expect(() => parseMetric('ndgc@10')).toThrow("did you mean 'ndcg@10'?");
  expect(() => parseMetric('precision')).toThrow('needs a cutoff of at least 1');
  expect(() => parseMetric('ndcg@0')).toThrow('needs a cutoff of at least 1');
});

test("BEIR's rule drops the query itself before the cut; documents that are merely numbered alike stay", () => {
  const run = runOf({ a: { a: 3, b: 2, c: 1 } });
  const qrels = qrelsOf({ a: { b: 1 } });
  expect(evaluateRun(run, qrels, ['mrr@10']).means['mrr@10']).toBe(0.5);
  expect(evaluateRun(dropIdenticalIds(run), qrels, ['mrr@10']).means['mrr@10']).toBe(1);
  expect(
    evaluateRun(
      dropIdenticalIds(run, () => false),
      qrels,
      ['mrr@10'],
    ).means['mrr@10'],
  ).toBe(0.5);
  const table = (texts: Record<string, string>) => {
    const ids = Object.keys(texts);
    return {
      ids,
      length: ids.length,
      hash: '',
      text: (i: number) => texts[ids[i]],
      indexOf: (id: string) => (ids.includes(id) ? ids.indexOf(id) : undefined),
    };
  };
  const same = isQueryItself({
    queries: table({ 1: 'Is it so?', 2: 'what is lift' }),
    documents: table({ 1: 'A title Is it  so?', 2: 'heat transfer at the nose' }),
  });
  expect([same('1'), same('2'), same('3')]).toEqual([true, false, false]);
});

/** Random runs with many ties, grades from -1 to 3, unjudged documents, missing queries, scores that only differ in float64. */
const cases = fc.array(
  fc.record({
    judged: fc.dictionary(fc.stringMatching(/^d[0-9]{1,2}$/), fc.integer({ min: -1, max: 3 }), {
      minKeys: 1,
      maxKeys: 12,
    }),
    found: fc.option(
      fc.dictionary(
        fc.stringMatching(/^d[0-9]{1,2}$/),
        fc.oneof(
          fc.integer({ min: -2, max: 2 }),
          fc.double({ noNaN: true, min: -3, max: 3 }),
          fc.constantFrom(1, 1 + 1e-9, 1 - 1e-9, 1 + 2e-7),
        ),
        { minKeys: 1, maxKeys: 25 },
      ),
    ),
  }),
  { minLength: 1, maxLength: 8 },
);

/** The metrics once more, from their definitions, without sharing a line with the table. */
function naive(name: string, found: Record<string, number> | null, judged: Record<string, number>): number {
  const [kind, cut] = name.split('@');
  const k = cut ? Number(cut) : 1e9;
  const position = (d: string): number => {
    const score = Math.fround(found?.[d] ?? Number.NaN);
    if (Number.isNaN(score)) return 1e12;
    return (
      1 +
      Object.entries(found ?? {}).filter(([e, s]) => Math.fround(s) > score || (Math.fround(s) === score && e > d))
        .length
    );
  };
  const relevant = Object.entries(judged).filter(([, g]) => g > 0);
  const R = relevant.length;
  const hits = relevant.filter(([d]) => position(d) <= k);
  const first = Math.min(...relevant.map(([d]) => position(d)), 1e12);
  const best = relevant.map(([, g]) => g).sort((a, b) => b - a);
  const dcg = (gain: (g: number) => number): number =>
    hits.reduce((s, [d, g]) => s + (gain(g) * Math.LN2) / Math.log(position(d) + 1), 0);
  const ideal = (gain: (g: number) => number): number =>
    best.reduce((s, g, i) => (i < k ? s + (gain(g) * Math.LN2) / Math.log(i + 2) : s), 0);
  if (R === 0) return 0;
  switch (kind) {
    case 'ndcg':
      return dcg((g) => g) / ideal((g) => g);
    case 'ndcg-exp':
      return dcg((g) => 2 ** g - 1) / ideal((g) => 2 ** g - 1);
    case 'mrr':
      return first <= k ? 1 / first : 0;
    case 'map':
      return (
        hits.reduce((s, [d]) => s + relevant.filter(([e]) => position(e) <= position(d)).length / position(d), 0) / R
      );
    case 'recall':
      return hits.length / R;
    case 'r-cap':
      return hits.length / Math.min(k, R);
    case 'precision':
      return hits.length / k;
    case 'r-precision':
      return relevant.filter(([d]) => position(d) <= R).length / R;
    case 'success':
      return hits.length ? 1 : 0;
    default:
      throw new Error(kind);
  }
}

const every = Object.keys(metrics).flatMap((m) =>
  parseable(m) ? [m, `${m}@1`, `${m}@3`, `${m}@10`] : [`${m}@1`, `${m}@3`, `${m}@10`],
);
function parseable(name: string): boolean {
  try {
    parseMetric(name);
    return name !== 'r-precision';
  } catch {
    return false;
  }
}

test('every metric equals an independent implementation on random runs', () => {
  fc.assert(
    fc.property(cases, (queries) => {
      const name = (i: number): string => `q${i}`;
      const qrels = qrelsOf(Object.fromEntries(queries.map((q, i) => [name(i), q.judged])));
      const run = runOf(Object.fromEntries(queries.flatMap((q, i) => (q.found ? [[name(i), q.found]] : []))));
      const { perQuery } = evaluateRun(run, qrels, [...every, 'r-precision']);
      for (const m of [...every, 'r-precision'])
        for (const [i, q] of queries.entries()) expect(perQuery[m][i], m).toBeCloseTo(naive(m, q.found, q.judged), 9);
    }),
    { numRuns: 150, seed: 7 },
  );
});

test('a written run reads back with the same order and metrics', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'run-'));
  try {
    await fc.assert(
      fc.asyncProperty(cases, async (queries) => {
        const run = runOf(Object.fromEntries(queries.flatMap((q, i) => (q.found ? [[`q${i}`, q.found]] : []))));
        writeFileSync(join(folder, 'run.trec'), formatRun(run));
        const read = await readRun(join(folder, 'run.trec'));
        expect([...read.keys()]).toEqual([...run.keys()]);
        for (const [q, found] of run) expect(rank(read.get(q) as never)).toEqual(rank(found));
      }),
      { numRuns: 40, seed: 7 },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
  expect(() => formatRun(runOf({ q: { 'a b': 1 } }))).toThrow("the id 'a b' has white space");
});

const python = pythonWith('pytrec_eval');

/** What pytrec_eval calls each metric that it has. */
const theirs: Record<string, string> = {
  ndcg: 'ndcg',
  'ndcg@1': 'ndcg_cut_1',
  'ndcg@3': 'ndcg_cut_3',
  'ndcg@10': 'ndcg_cut_10',
  mrr: 'recip_rank',
  map: 'map',
  'map@3': 'map_cut_3',
  'map@10': 'map_cut_10',
  'recall@1': 'recall_1',
  'recall@10': 'recall_10',
  'recall@100': 'recall_100',
  'precision@1': 'P_1',
  'precision@10': 'P_10',
  'r-precision': 'Rprec',
  'success@1': 'success_1',
  'success@10': 'success_10',
};

const judge = `
import json, sys, pytrec_eval
cases = json.load(sys.stdin)
measures = {'ndcg', 'ndcg_cut.1,3,10', 'recip_rank', 'map', 'map_cut.3,10', 'recall.1,10,100', 'P.1,10', 'Rprec', 'success.1,10'}
out = []
for qrels, run in cases:
    out.append(pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run))
json.dump(out, sys.stdout)
`;

function againstPytrecEval(
  pairs: [Record<string, Record<string, number>>, Record<string, Record<string, number>>][],
): void {
  const out = execFileSync(python as string, ['-c', judge], {
    input: JSON.stringify(pairs),
    maxBuffer: 1 << 29,
    timeout: 50_000,
  });
  const judged = JSON.parse(out.toString()) as Record<string, Record<string, number>>[];
  let compared = 0;
  for (const [n, [qrels, run]] of pairs.entries()) {
    const { perQuery, queryIds, means } = evaluateRun(runOf(run), qrelsOf(qrels), Object.keys(theirs));
    for (const [ours, their] of Object.entries(theirs)) {
      for (const [i, q] of queryIds.entries()) {
        // pytrec_eval is silent on a query that the run lacks: it counts 0 here.
        expect(Math.abs(perQuery[ours][i] - (judged[n][q]?.[their] ?? 0)), `${ours} of ${q}`).toBeLessThan(1e-9);
        compared++;
      }
      const total = Object.values(judged[n]).reduce((s, v) => s + v[their], 0);
      expect(Math.abs(means[ours] - total / queryIds.length), ours).toBeLessThan(1e-9);
    }
  }
  expect(compared).toBeGreaterThan(1000);
}

test.skipIf(!python)('equal to pytrec_eval on random graded runs with ties and missing queries', () => {
  againstPytrecEval(
    fc.sample(cases, { numRuns: 150, seed: 11 }).map((queries) => [
      // A query whose grades are all negative makes trec_eval read beyond its table of grades and hang: it gets a 0.
      Object.fromEntries(queries.map((q, i) => [`q${i}`, { ...q.judged, d100: 0 }])),
      Object.fromEntries(queries.flatMap((q, i) => (q.found ? [[`q${i}`, q.found]] : []))),
    ]),
  );
});

test.skipIf(!python || !shared)('equal to pytrec_eval on the judgements of real data sets', async () => {
  const pairs: Parameters<typeof againstPytrecEval>[0] = [];
  const draw = fc.sample(fc.double({ noNaN: true, min: 0, max: 1 }), { numRuns: 4096, seed: 3 });
  for (const name of ['cranfield', 'squad', 'squad-sentences']) {
    const dataset = await openBeir(join(shared as string, 'data', name));
    const qrels = [...dataset.qrels('test')].slice(0, 300);
    const run: Record<string, Record<string, number>> = {};
    let at = 0;
    const next = (): number => draw[at++ % draw.length];
    // A noisy system: relevant documents among others, scores rounded so that ties are common.
    for (const [q, grades] of qrels.slice(5))
      run[q] = Object.fromEntries(
        [
          ...grades.keys(),
          ...Array.from({ length: 120 }, () => dataset.documents.ids[Math.floor(next() * dataset.documents.length)]),
        ]
          .filter((_, i) => i >= grades.size || next() > 0.2)
          .map((d) => [d, Math.round((next() + (grades.has(d) ? 0.3 : 0)) * 50) / 50]),
      );
    pairs.push([Object.fromEntries(qrels.map(([q, g]) => [q, Object.fromEntries(g)])), run]);
  }
  againstPytrecEval(pairs);
});
