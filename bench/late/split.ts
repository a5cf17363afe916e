/**
 * @file A cross-encoder cut at each of its layers, not trained again: how far its order stays that of the whole model, and what a pair
 * costs.
 *
 *     npm run bench -- split --teacher DIR --data DIR --lists FILE [--split test] [--queries 100] [--depth 20]
 *
 * `--lists`: a run file, or lines query-id, corpus-id, score; the first `--depth` documents of each query are scored.
 */
import { parseArgs } from 'node:util';
import { judgedQueries } from '../../data/dataset.ts';
import { openDataset } from '../../data/open.ts';
import { readScores } from '../../data/scores.ts';
import { evaluateRun, type Found, type Run } from '../../evaluation/metrics/evaluate.ts';
import { rowOf } from '../../math/ragged.ts';
import { Random } from '../../math/random.ts';
import { kendallTauB } from '../../math/rank-correlation.ts';
import { type SplitStates, splitCrossEncoder } from '../../teachers/split/split-cross-encoder.ts';

const { values } = parseArgs({
  options: {
    teacher: { type: 'string', default: '' },
    data: { type: 'string', default: '' },
    lists: { type: 'string', default: '' },
    split: { type: 'string', default: 'test' },
    queries: { type: 'string', default: '100' },
    depth: { type: 'string', default: '20' },
  },
});
const dataset = await openDataset(values.data);
const lists = await readScores(values.lists, dataset.queries, dataset.documents);
const judged = new Set(judgedQueries(dataset, values.split));
const order = Random.of(0, 'split bench').shuffle(
  Int32Array.from(lists.queries.keys()).filter((i) => judged.has(lists.queries[i])),
);
const asked = [...order.subarray(0, Number(values.queries))].map((i) => ({
  query: lists.queries[i],
  documents: [...rowOf(lists.documents, lists.offsets, i).subarray(0, Number(values.depth))],
}));
const limits = { maxQuery: 32, maxDocument: 96 };

/** One row: scores of every list, and the seconds they took. */
async function ranked(score: (query: string, documents: readonly number[]) => Promise<Float32Array>) {
  const run = new Map<string, Found>();
  const started = performance.now();
  for (const { query, documents } of asked) {
    const scores = await score(dataset.queries.text(query), documents);
    run.set(dataset.queries.ids[query], { ids: documents.map((d) => dataset.documents.ids[d]), scores });
  }
  return { run, seconds: (performance.now() - started) / 1000 };
}
const qrels = new Map(
  [...dataset.qrels(values.split)].filter(([id]) => asked.some((a) => dataset.queries.ids[a.query] === id)),
);
const quality = (run: Run): string => evaluateRun(run, qrels, ['ndcg@10']).means['ndcg@10'].toFixed(4);
const pairs = asked.reduce((n, a) => n + a.documents.length, 0);

let whole: Run | undefined;
const first = await splitCrossEncoder(values.teacher, 1, limits);
const { layers, width } = first;
console.log(`${asked.length} queries, ${pairs} pairs, ${layers} layers, states of ${width} numbers a token`);
console.log('layers below  nDCG@10  tau to the whole  ms a pair  KB a document (float16)');
for (let below = 0; below < layers; below++) {
  const model = below > 1 ? await splitCrossEncoder(values.teacher, below, limits) : first;
  const stored = new Map<number, SplitStates>();
  if (below) {
    const all = [...new Set(asked.flatMap((a) => a.documents))];
    const states = await model.documents(all.map((d) => dataset.documents.text(d)));
    for (const [i, d] of all.entries()) stored.set(d, states[i]);
  }
  const { run, seconds } = await ranked((query, documents) =>
    below
      ? model.score(
          query,
          documents.map((d) => stored.get(d) as SplitStates),
        )
      : model.whole(
          query,
          documents.map((d) => dataset.documents.text(d)),
        ),
  );
  whole ??= run;
  const taus = [...run].map(([id, { scores }]) => kendallTauB(scores, whole?.get(id)?.scores as ArrayLike<number>));
  const tau = taus.reduce((a, b) => a + b, 0) / taus.length;
  const tokens = [...stored.values()].reduce((n, s) => n + s.count, 0) / Math.max(1, stored.size);
  const size = below ? ((tokens * width * 2) / 1024).toFixed(1) : '-';
  console.log(
    `${String(below).padStart(12)}  ${quality(run)}  ${tau.toFixed(3).padStart(16)}  ${((1000 * seconds) / pairs).toFixed(2).padStart(9)}  ${size.padStart(8)}`,
  );
  if (model !== first) await model.dispose();
}
await first.dispose();
