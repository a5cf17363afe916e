/**
 * @file A cross-encoder cut at its layers: how far its order stays that of the whole model before and after training, and what a pair
 * and a document cost.
 *
 *     npm run bench -- split --teacher DIR --data DIR --lists FILE [--split test] [--queries 100] [--depth 20] [--below 1,2,3]
 *     npm run bench -- split ... --steps 500 [--train-lists FILE] [--train-queries 1000] [--batch-size 4] [--provider cuda]
 *
 * `--lists`, `--train-lists`: a run file, or lines query-id, corpus-id, score; the first `--depth` documents of each query are taken.
 * `--below`: the cuts; every layer but the last by default. `--provider` is where it is trained, and what milliseconds are of.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { judgedQueries } from '../../data/dataset.ts';
import { openDataset } from '../../data/open.ts';
import { type Computing, computeOn } from '../../engine/runtime/provider.ts';
import { Random } from '../../math/random.ts';
import { listsOf } from '../../search/exits/lists.ts';
import { measureSplit, measureWhole, type SplitFigures } from '../../search/split/measure.ts';
import { makeSplit } from '../../search/split/split.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { openSplit, splitCrossEncoder } from '../../teachers/split/split-cross-encoder.ts';

const { values } = parseArgs({
  options: {
    teacher: { type: 'string', default: '' },
    data: { type: 'string', default: '' },
    lists: { type: 'string' },
    split: { type: 'string', default: 'test' },
    queries: { type: 'string', default: '100' },
    depth: { type: 'string', default: '20' },
    below: { type: 'string' },
    steps: { type: 'string', default: '0' },
    'train-lists': { type: 'string' },
    'train-queries': { type: 'string', default: '1000' },
    'batch-size': { type: 'string', default: '4' },
    provider: { type: 'string', default: 'cpu' },
  },
});
const { teacher, data, split, steps } = values;
const [queryTokens, documentTokens] = [32, 96];
const provider = values.provider as Computing['provider'];
const session = await computeOn({ provider });
const limits = { maxQuery: queryTokens, maxDocument: documentTokens, session };
const dataset = await openDataset(data);
const asked = Random.of(0, 'split bench').shuffle(judgedQueries(dataset, split)).slice(0, Number(values.queries));
const lists = await listsOf(dataset, asked, { file: values.lists, count: Number(values.depth) }, {});

const show = (name: string, { ndcg, tau, milliseconds, kilobytes }: SplitFigures, stepSeconds?: number): void =>
  console.log(
    [
      name.padEnd(20),
      ndcg.toFixed(4),
      (tau?.toFixed(3) ?? '').padStart(16),
      milliseconds.toFixed(2).padStart(9),
      (kilobytes?.toFixed(1) ?? '').padStart(23),
      (stepSeconds?.toFixed(2) ?? '').padStart(8),
    ].join('  '),
  );
console.log(`${lists.length} queries, ${lists.reduce((n, l) => n + l.documents.length, 0)} pairs, ${session.provider}`);
console.log('layers below          nDCG@10  tau to the whole  ms a pair  KB a document (float16)  s a step');
const whole = await crossEncoder(teacher, limits);
const measured = { dataset, lists, split };
const { scores, figures } = await measureWhole(
  measured,
  (query, documents) => whole.score(documents.map((document) => ({ queryId: '', documentId: '', query, document }))),
  {},
);
await whole.dispose();
show('whole', figures);
const known = { ...measured, whole: scores };
const first = await splitCrossEncoder(teacher, 1, limits);
const cuts = values.below?.split(',').map(Number) ?? Array.from({ length: first.layers - 1 }, (_, i) => i + 1);
await first.dispose();
for (const below of cuts) {
  const cut = await splitCrossEncoder(teacher, below, limits);
  show(`${below}, untrained`, await measureSplit(cut, known, {}));
  await cut.dispose();
  if (!Number(steps)) continue;
  const folder = await mkdtemp(join(tmpdir(), 'split-bench-'));
  try {
    const output = join(folder, 'split');
    const { stepSeconds } = await makeSplit({
      ...{ teacher, data, output, below, provider, queryTokens, documentTokens, evaluate: 'none' },
      ...{ steps: Number(steps), queries: Number(values['train-queries']), candidates: Number(values.depth) },
      ...{ lists: values['train-lists'], batchSize: Number(values['batch-size']) },
    });
    const made = await openSplit(output, session);
    show(`${below}, trained`, await measureSplit(made, known, {}), stepSeconds);
    await made.dispose();
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
