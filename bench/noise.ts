/**
 * @file Writes what a weak teacher says of data/debian's stored candidates: minilm-l6's cosines, in random order.
 *
 *   npm run noise      writes runs/noise/all.tsv, and right.tsv with those queries alone whose best candidate is relevant
 */
import { join } from 'node:path';
import { writeWhole } from '../common/files.ts';
import { Random } from '../common/random.ts';
import { openBeir } from '../data/beir.ts';
import { readScores } from '../data/scores.ts';
import { fastestProvider } from '../engine/runtime/resident.ts';
import { defaultCache } from '../pipelines/stages/teachers.ts';
import { ScoreCache } from '../teachers/cache.ts';
import { dualEncoder } from '../teachers/dual-encoder.ts';

const shared = process.env.SHARED ?? '../shared';
const data = await openBeir(join(shared, 'data/debian'));
const lists = await readScores(join(shared, 'data/debian/teacher-scores-train.tsv.gz'), data.queries, data.documents);
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
const random = Random.of(0, 'noise');
const qrels = data.qrels('train');
const [all, right] = [['query-id\tcorpus-id\tscore'], ['query-id\tcorpus-id\tscore']];
let hits = 0;
for (let i = 0; i < lists.queries.length; i++) {
  const id = data.queries.ids[lists.queries[i]];
  const places = random.shuffle(Array.from(lists.documents.subarray(lists.offsets[i], lists.offsets[i + 1])));
  const scored = places.map((d) => {
    let dot = 0;
    for (let k = 0; k < D; k++) dot += queries.data[i * D + k] * documents.data[d * D + k];
    return { id: data.documents.ids[d], dot };
  });
  const best = scored.reduce((a, b) => (b.dot > a.dot ? b : a));
  const isRight = (qrels.get(id)?.get(best.id) ?? 0) > 0;
  const lines = scored.map((s) => `${id}\t${s.id}\t${s.dot}`);
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
