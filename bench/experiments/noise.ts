/**
 * @file Writes scores of noisy teachers for data/debian's stored candidates, in random order.
 *
 *   npm run noise                 minilm-l6's cosines into runs/noise/all.tsv, and those of queries whose best candidate is
 * relevant into right.tsv
 *   npm run noise -- --shuffled   the stored scores into shuffled.tsv, of 40 % of the queries given to candidates at random, and
 *                                 into unshuffled.tsv those of the other queries
 */
import { join } from 'node:path';
import { writeWhole } from '../../common/files.ts';
import { openBeir } from '../../data/beir.ts';
import { readScores } from '../../data/scores.ts';
import { fastestProvider } from '../../engine/runtime/device-session.ts';
import { positionsOf, rowOf } from '../../math/ragged.ts';
import { Random } from '../../math/random.ts';
import { defaultCache, ScoreCache } from '../../teachers/cache/score-cache.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';

const shared = process.env.SHARED ?? '../shared';
const data = await openBeir(join(shared, 'data/debian'));
const lists = await readScores(join(shared, 'data/debian/teacher-scores-train.tsv.gz'), data.queries, data.documents);
const random = Random.of(0, 'noise');
const HEADER = 'query-id\tcorpus-id\tscore';
const WRONG = 0.4;

if (process.argv.includes('--shuffled')) await shuffled();
else await weak();

/** Lines of a query's candidates in random order, so that the order does not reveal the relevant one. */
function linesOf(i: number, scoreOf: (at: number) => number): string[] {
  const id = data.queries.ids[lists.queries[i]];
  const places = random.shuffle(positionsOf(lists.offsets, i));
  return Array.from(places, (at) => `${id}\t${data.documents.ids[lists.documents[at]]}\t${scoreOf(at)}`);
}

async function shuffled(): Promise<void> {
  const [all, sound] = [[HEADER], [HEADER]];
  for (let i = 0; i < lists.queries.length; i++) {
    const from = lists.offsets[i];
    const own = rowOf(lists.scores, lists.offsets, i).slice();
    const wrong = random.uniform() < WRONG;
    if (wrong) random.shuffle(own);
    const lines = linesOf(i, (at) => own[at - from]);
    all.push(...lines);
    if (!wrong) sound.push(...lines);
  }
  await writeWhole('runs/noise/shuffled.tsv', `${all.join('\n')}\n`);
  await writeWhole('runs/noise/unshuffled.tsv', `${sound.join('\n')}\n`);
}

async function weak(): Promise<void> {
  const cache = await ScoreCache.open(process.env.CACHE ?? defaultCache());
  const teacher = cache.wrap(
    await dualEncoder(join(shared, 'models/minilm-l6'), {
      queryTokens: 64,
      documentTokens: 192,
      session: { provider: await fastestProvider() },
    }),
  );
  const texts = { length: lists.queries.length, text: (i: number) => data.queries.text(lists.queries[i]) };
  const queries = await teacher.embed?.(texts, 'query');
  const documents = await teacher.embed?.(data.documents, 'document');
  if (!queries || !documents) throw new Error('a dual-encoder embeds');
  const { dimensions: D } = queries;
  const qrels = data.qrels('train');
  const [all, right] = [[HEADER], [HEADER]];
  let hits = 0;
  for (let i = 0; i < lists.queries.length; i++) {
    const id = data.queries.ids[lists.queries[i]];
    const scores = new Map<number, number>();
    for (const at of positionsOf(lists.offsets, i)) {
      let dot = 0;
      for (let k = 0; k < D; k++) dot += queries.data[i * D + k] * documents.data[lists.documents[at] * D + k];
      scores.set(at, dot);
    }
    const [best] = [...scores].reduce((a, b) => (b[1] > a[1] ? b : a));
    const isRight = (qrels.get(id)?.get(data.documents.ids[lists.documents[best]]) ?? 0) > 0;
    const lines = linesOf(i, (at) => scores.get(at) as number);
    all.push(...lines);
    if (isRight) right.push(...lines);
    if (isRight) hits++;
  }
  await writeWhole('runs/noise/all.tsv', `${all.join('\n')}\n`);
  await writeWhole('runs/noise/right.tsv', `${right.join('\n')}\n`);
  console.log(
    `the teacher is right for ${((100 * hits) / lists.queries.length).toFixed(1)} % of ${lists.queries.length} queries`,
  );
  await cache.close();
}
