/**
 * @file Divides data/debian by topic, for students that go on learning: the queries whose documents are in the larger of two
 * clusters of debian-dual-encoder are runs/halves/old, with the corpus, the others runs/halves/new, without one.
 *
 *   npm run halves
 */
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { writeWhole } from '../../common/files.ts';
import { openBeir } from '../../data/beir.ts';
import { fastestProvider } from '../../engine/runtime/device-session.ts';
import { kMeans } from '../../math/k-means.ts';
import { defaultCache, ScoreCache } from '../../teachers/cache/score-cache.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';

const source = join(process.env.SHARED ?? '../shared', 'data/debian');
const data = await openBeir(source);
const cache = await ScoreCache.open(process.env.CACHE ?? defaultCache());
const embedder = cache.wrap(
  await dualEncoder(join(process.env.SHARED ?? '../shared', 'models/debian-dual-encoder'), {
    queryTokens: 64,
    documentTokens: 192,
    session: { provider: await fastestProvider() },
  }),
);
if (!embedder.embed) throw new Error('the dual-encoder embeds');
const { assignment } = kMeans(await embedder.embed(data.documents, 'document'), { clusters: 2, seed: 0 });
const larger = Number(assignment.reduce((n, a) => n + a, 0) > assignment.length / 2);

for (const [name, half] of [
  ['old', larger],
  ['new', 1 - larger],
] as const) {
  const folder = join('runs/halves', name);
  mkdirSync(join(folder, 'qrels'), { recursive: true });
  if (name === 'old') copyFileSync(join(source, 'corpus.jsonl.gz'), join(folder, 'corpus.jsonl.gz'));
  const queries: string[] = [];
  const counts: string[] = [];
  for (const split of data.splits) {
    const rows: string[] = [];
    for (const [query, grades] of data.qrels(split)) {
      const [[document, grade]] = grades;
      if (assignment[data.documents.indexOf(document) as number] !== half) continue;
      rows.push(`${query}\t${document}\t${grade}\n`);
      queries.push(
        `${JSON.stringify({ _id: query, text: data.queries.text(data.queries.indexOf(query) as number) })}\n`,
      );
    }
    counts.push(`${split} ${rows.length}`);
    await writeWhole(join(folder, 'qrels', `${split}.tsv`), `query-id\tcorpus-id\tscore\n${rows.join('')}`);
  }
  await writeWhole(join(folder, 'queries.jsonl'), queries.join(''));
  console.log(`${folder}: ${counts.join(', ')}`);
}
await embedder.dispose();
await cache.close();
