/**
 * @file A cascade over many random splits of judged queries: quality at so many pairs, and how often its promise is broken.
 *
 *     npm run bench -- cascade --teacher DIR --data DIR --student DIR [--scores FILE] [--queries 300] [--depth 100] [--splits 200]
 *
 * The first stage is a dual-encoder, or BM25 with `--student bm25`. With `--documents DIR` another encoder embeds the documents
 * (a query tower's own are those it was trained on), with `--lexical 0.25` the scores are hybrid: BM25 is added with this weight,
 * BM25's mean best score being 1. With `--scores` the lists are those of a file of
 * `query-id corpus-id score` lines, put in the order of the first stage, and the teacher is not asked; else the first stage finds --depth
 * documents over the whole corpus and the teacher scores them through the cache.
 */
import { parseArgs } from 'node:util';
import { type Calibrated, fitCascade, fullQuality } from '../../adaptive/fit.ts';
import { needsOf, type Policy, stopAt } from '../../adaptive/policy.ts';
import { qualityOf, statesOf } from '../../adaptive/quality.ts';
import type { RuleName } from '../../adaptive/rules/index.ts';
import { servedOrder } from '../../adaptive/rules/states.ts';
import { type Dataset, judgedQueries, textsAt } from '../../data/dataset.ts';
import { openDataset } from '../../data/open.ts';
import { readScores } from '../../data/scores.ts';
import { bm25Index } from '../../evaluation/bm25-run.ts';
import { Random } from '../../math/random.ts';
import { mean, quantile } from '../../math/resampling.ts';
import { search } from '../../retrieval/exact-search.ts';
import { hybridSearch } from '../../retrieval/hybrid.ts';
import { defaultCache, ScoreCache } from '../../teachers/cache/score-cache.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';
import type { Teacher } from '../../teachers/teacher.ts';

const { values } = parseArgs({
  options: {
    student: { type: 'string' },
    teacher: { type: 'string' },
    data: { type: 'string' },
    scores: { type: 'string' },
    documents: { type: 'string' },
    lexical: { type: 'string', default: '0' },
    split: { type: 'string', default: 'test' },
    queries: { type: 'string' },
    splits: { type: 'string', default: '200' },
    depth: { type: 'string', default: '100' },
    'only-score': { type: 'boolean', default: false },
  },
});
const { student = 'bm25', teacher: teacherFolder = '', data = '' } = values;
const DEPTH = Number(values.depth);
const DELTA = 0.1;
const onProgress = ({ stage, done, total }: { stage: string; done: number; total?: number }): void => {
  if (done % 1024 === 0) console.error(`${stage} ${done}/${total}`);
};

const dataset = await openDataset(data);
const cache = await ScoreCache.open(defaultCache());
const all = Random.of(0, 'bench').shuffle(judgedQueries(dataset, values.split));
const positions = values.queries === undefined ? [...all] : [...all.slice(0, Number(values.queries))];
const lists = await candidates(dataset, positions);
await cache.close();
if (!values['only-score']) report(lists);

interface List {
  documents: number[];
  student: number[];
  teacher: ArrayLike<number>;
}

/** Lists in the first stage's order, with both scores. */
async function candidates(from: Dataset, queries: readonly number[]): Promise<Calibrated[]> {
  const first = await firstStage(from, queries);
  let found: List[];
  if (values.scores !== undefined) {
    const given = await readScores(values.scores, from.queries, from.documents);
    const at = new Map(Array.from(given.queries, (q, i) => [q, i]));
    found = queries.map((q, i) => {
      const k = at.get(q) as number;
      const [begin, end] = [given.offsets[k], given.offsets[k + 1]];
      const documents = [...given.documents.subarray(begin, end)];
      return { documents, student: first.score(i, documents), teacher: given.scores.subarray(begin, end) };
    });
  } else {
    const own = queries.map((_, i) => first.best(i));
    const model = await crossEncoder(teacherFolder, { maxQuery: 62, maxDocument: 190 });
    const pairs = own.flatMap((documents, i) =>
      documents.map((d) => ({
        queryId: from.queries.ids[queries[i]],
        documentId: from.documents.ids[d],
        query: from.queries.text(queries[i]),
        document: from.documents.text(d),
      })),
    );
    const scores = await cache.wrap(model).score(pairs, { onProgress });
    await model.dispose();
    found = own.map((documents, i) => ({
      documents,
      student: first.score(i, documents),
      teacher: scores.subarray(i * DEPTH, (i + 1) * DEPTH),
    }));
  }
  const qrels = from.qrels(values.split);
  return found.map((list, i): Calibrated => {
    const order = list.documents.map((_, k) => k).sort((a, b) => list.student[b] - list.student[a] || a - b);
    const grades = qrels.get(from.queries.ids[queries[i]]);
    return {
      student: Float32Array.from(order, (k) => list.student[k]),
      teacher: Float32Array.from(order, (k) => list.teacher[k]),
      grades: order.map((k) => Math.max(0, grades?.get(from.documents.ids[list.documents[k]]) ?? 0)),
      ideal: [...(grades?.values() ?? [])].filter((g) => g > 0).sort((a, b) => b - a),
    };
  });
}

async function firstStage(from: Dataset, queries: readonly number[]) {
  if (student === 'bm25') {
    const index = await bm25Index(from.documents);
    // Scores of about the size of cosines, which the features expect: shares of the query's best.
    const own = queries.map((q) => index.search(from.queries.text(q), 1000));
    return {
      best: (i: number): number[] => [...own[i].indices.slice(0, DEPTH)],
      score(i: number, documents: readonly number[]): number[] {
        const top = own[i].scores[0] || 1;
        const scores = new Map(Array.from(own[i].indices, (d, k) => [d, own[i].scores[k] / top]));
        return documents.map((d) => scores.get(d) ?? 0);
      },
    };
  }
  const limits = { queryTokens: 64, documentTokens: 192 };
  const embedded = async (
    folder: string,
    texts: Parameters<NonNullable<Teacher['embed']>>[0],
    role: 'query' | 'document',
  ) => {
    const encoder = await dualEncoder(folder, limits);
    const found = await cache.wrap(encoder).embed?.(texts, role, { onProgress });
    await encoder.dispose();
    return found as { data: Float32Array; dimensions: number };
  };
  const { data: documents } = await embedded(values.documents ?? student, from.documents, 'document');
  const { data: vectors, dimensions: D } = await embedded(student, textsAt(from, queries), 'query');
  const cosine = (i: number, d: number): number => {
    let sum = 0;
    for (let k = 0; k < D; k++) sum += vectors[i * D + k] * documents[d * D + k];
    return sum;
  };
  const lambda = Number(values.lexical);
  if (lambda) return hybrid(from, queries, cosine, vectors, documents, D, lambda);
  const near = values.scores === undefined ? await search(vectors, documents, D, DEPTH) : undefined;
  return {
    best: (i: number): number[] => [...(near as { indices: Int32Array }).indices.subarray(i * DEPTH, (i + 1) * DEPTH)],
    score: (i: number, wanted: readonly number[]): number[] => wanted.map((d) => cosine(i, d)),
  };
}

/** Cosine + lambda x BM25 / scale, over the whole corpus or the documents given. */
async function hybrid(
  from: Dataset,
  queries: readonly number[],
  cosine: (i: number, d: number) => number,
  vectors: Float32Array,
  documents: Float32Array,
  dimensions: number,
  lambda: number,
) {
  const index = await bm25Index(from.documents);
  const text = (i: number): string => from.queries.text(queries[i]);
  const weight = { lambda, scale: mean(queries.map((_, i) => index.search(text(i), 1).scores[0] ?? 0)) || 1 };
  const hits =
    values.scores === undefined
      ? await hybridSearch({ vectors, text }, documents, dimensions, index, weight, { k: DEPTH, onProgress })
      : undefined;
  return {
    best: (i: number): number[] => [...(hits as { indices: Int32Array }).indices.subarray(i * DEPTH, (i + 1) * DEPTH)],
    score(i: number, wanted: readonly number[]): number[] {
      const words = index.scores(text(i), Int32Array.from(wanted));
      return wanted.map((d, k) => cosine(i, d) + (lambda * words[k]) / weight.scale);
    },
  };
}

function report(queries: readonly Calibrated[]): void {
  const full = mean(queries.map(fullQuality));
  const alone = mean(queries.map((q) => qualityOf(q, servedOrder(q, 0, 0))));
  console.log(`${queries.length} queries: first stage ${alone.toFixed(4)}, teacher over the lists ${full.toFixed(4)}`);
  for (const depth of [3, 10, 50, 100].filter((d) => d <= DEPTH)) {
    const at = (fusion: number): number => mean(queries.map((q) => qualityOf(q, servedOrder(q, depth, fusion)))) - full;
    console.log(
      `first ${depth} of every query: teacher alone ${signed(at(0))}, joined with weight 20 ${signed(at(20))}`,
    );
  }
  const random = Random.of(1, 'splits');
  const draws = Array.from({ length: Number(values.splits) }, () => [...random.shuffle(queries.map((_, i) => i))]);
  const budgets = [1, 2, 3, 5, 10, 20, 30].filter((b) => b < DEPTH);
  const gains = budgets.map((): number[] => []);
  const spent = budgets.map((): number[] => []);
  for (const draw of draws) {
    const order = [...draw].map((i) => queries[i]);
    const half = order.length >> 1;
    for (const [b, { gain, pairs }] of atBudgets(order.slice(0, half), order.slice(half), budgets).entries()) {
      gains[b].push(gain);
      spent[b].push(pairs);
    }
  }
  for (const [b, budget] of budgets.entries())
    console.log(
      `depth chosen a query, joined, ${budget} pairs asked for: ${mean(spent[b]).toFixed(1)} pairs, less the teacher over all ${spread(gains[b])}`,
    );
  const equal = budgets.findIndex((_, b) => mean(gains[b]) >= 0);
  console.log(
    `as good as the teacher over all from ${equal < 0 ? 'more pairs than these' : `${mean(spent[equal]).toFixed(1)} pairs`}`,
  );
  for (const alpha of [0.005, 0.01, 0.02])
    for (const [rule, fusion, loss] of [
      ['entropy', 0, 'clipped'],
      ['diff-ndcg', 0, 'clipped'],
      ['diff-ndcg', 'auto', 'clipped'],
      ['diff-ndcg', 'auto', 'signed'],
    ] as const)
      promise(queries, draws, alpha, { rule, fusion, loss });
}

/** Fitted on one half, with the thresholds that spend the budgets there; measured on the other. */
function atBudgets(fitting: readonly Calibrated[], rest: readonly Calibrated[], budgets: readonly number[]) {
  // The policy's rule and weight are taken, not its threshold.
  const depths = [1, 2, 3, 5, 10, 20, 50, 100].filter((d) => d <= DEPTH);
  const { policy } = fitCascade(fitting, { alpha: 0.5, delta: DELTA, rule: 'diff-ndcg', depths });
  const [own, other] = [fitting, rest].map((some) => some.map((q) => stated(q, policy)));
  const pairsAt = (threshold: number, states: typeof own): number =>
    mean(states.map((s) => s.scored[stopAt(s.needs, threshold)]));
  const seen = own.flatMap((s) => [...s.needs]).sort((a, b) => b - a);
  return budgets.map((budget) => {
    let [low, high] = [0, seen.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (pairsAt(seen[middle], own) <= budget) low = middle;
      else high = middle;
    }
    const threshold = seen[low];
    return {
      pairs: pairsAt(threshold, other),
      gain: mean(other.map((s) => s.quality[stopAt(s.needs, threshold)] - s.full)),
    };
  });
}

function stated(q: Calibrated, policy: Policy) {
  const { scored, features, quality } = statesOf(q, policy.depths, policy.fusion);
  return { scored, quality, needs: needsOf(q, policy, features), full: fullQuality(q) };
}

/**
 * A third fits, a third certifies, and the realised risk is measured on the last. The queries that certify are drawn from those that
 * do not fit: the promise is broken where the mean loss of these, certifying and last ones together, is above alpha.
 */
function promise(
  queries: readonly Calibrated[],
  draws: readonly ArrayLike<number>[],
  alpha: number,
  kind: { rule: RuleName; fusion: number | 'auto'; loss: 'clipped' | 'signed' },
): void {
  const { rule, fusion, loss } = kind;
  const third = Math.floor(queries.length / 3);
  const rows = draws.map((draw) => {
    const order = Array.from(draw, (i) => queries[i]);
    const { policy, guarantee } = fitCascade(order.slice(0, 2 * third), { alpha, delta: DELTA, ...kind });
    const drawnFrom = order.slice(third).map((q) => stated(q, policy));
    const lossOf = (s: (typeof drawnFrom)[number]): number =>
      loss === 'clipped'
        ? Math.max(0, s.full - s.quality[stopAt(s.needs, policy.threshold)])
        : s.full - s.quality[stopAt(s.needs, policy.threshold)];
    const states = drawnFrom.slice(third);
    const stops = states.map((s) => stopAt(s.needs, policy.threshold));
    return {
      certified: guarantee.certified,
      risk: mean(states.map(lossOf)),
      broken: mean(drawnFrom.map(lossOf)) > alpha,
      deferred: mean(stops.map((s) => Number(s > 0))),
      pairs: mean(states.map((s, i) => s.scored[stops[i]])),
      gain: mean(states.map((s, i) => s.quality[stops[i]] - s.full)),
    };
  });
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  const share = (holds: (row: (typeof rows)[number]) => boolean): string =>
    percent(mean(rows.map((r) => Number(holds(r)))));
  const of = (key: 'risk' | 'deferred' | 'pairs' | 'gain'): number => mean(rows.map((r) => r[key]));
  console.log(
    `alpha ${alpha}, ${rule}, ${fusion === 'auto' ? 'joined where it helps' : 'teacher alone'}, ${loss}: realised risk ${of('risk').toFixed(4)}, above alpha on the last third in ${share((r) => r.risk > alpha)}, promise broken in ${share((r) => r.broken)}, deferred ${percent(of('deferred'))}, pairs ${of('pairs').toFixed(1)}, quality less the teacher's ${signed(of('gain'))}, certified in ${share((r) => r.certified)}`,
  );
}

function signed(x: number): string {
  return `${x < 0 ? '-' : '+'}${Math.abs(x).toFixed(4)}`;
}
function spread(all: readonly number[]): string {
  return `${signed(mean(all))} [${signed(quantile(all, 0.025))}, ${signed(quantile(all, 0.975))}]`;
}
