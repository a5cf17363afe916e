/**
 * @file Pairs per second with the cross-encoder, compared with sentence-transformers' CrossEncoder.
 *
 *   npm run bench -- score [pairs]      5,000 by default, of data/debian's dev candidates, truncated at 256 tokens
 *
 * PROVIDER=cuda: on a card, in fp16 and in float32, and CrossEncoder in fp16.
 */
import { join } from 'node:path';
import { openBeir } from '../../data/beir.ts';
import { readScores } from '../../data/scores.ts';
import { rowOf } from '../../math/ragged.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import type { TeacherDType } from '../../teachers/teacher.ts';
import { compare, inDTypes, type Measured, PROVIDER, python, round, SHARED } from './peers.ts';
import { peakMegabytes } from './step.ts';

async function measure(count: number, dtype: TeacherDType): Promise<Measured> {
  const folder = join(SHARED, 'data/debian');
  const { queries, documents } = await openBeir(folder);
  const lists = await readScores(join(folder, 'teacher-scores-dev.tsv.gz'), queries, documents);
  const pairs = Array.from(lists.queries, (q, i) =>
    Array.from(rowOf(lists.documents, lists.offsets, i), (d) => ({
      queryId: queries.ids[q],
      documentId: documents.ids[d],
      query: queries.text(q),
      document: documents.text(d),
    })),
  )
    .flat()
    .slice(0, count);
  const options = { maxLength: 256, dtype, session: { provider: PROVIDER } };
  const teacher = await crossEncoder(join(SHARED, 'models/debian-cross-encoder'), options);
  await teacher.score(pairs.slice(0, 64));
  const started = performance.now();
  await teacher.score(pairs);
  const seconds = (performance.now() - started) / 1000;
  await teacher.dispose();
  return {
    engine: 'onnx-distill',
    dtype,
    pairs: pairs.length,
    ms_a_pair: round((1000 * seconds) / pairs.length, 3),
    pairs_a_second: round(pairs.length / seconds, 1),
    peak_rss_mb: peakMegabytes(),
  };
}

if (import.meta.filename === process.argv[1]) {
  const args = process.argv.slice(2);
  if (args[0] === 'ours') console.log(JSON.stringify(await measure(Number(args[1]), args[2] as TeacherDType)));
  else {
    const pairs = Number(args[0] ?? 5000);
    await compare(
      [...inDTypes(import.meta.filename, pairs), python('sentence-transformers', 'score.py', pairs)],
      ['ms_a_pair'],
    );
  }
}
