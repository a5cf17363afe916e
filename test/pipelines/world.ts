/** @file A tiny world on disk: a BEIR folder, a dual-encoder, a cross-encoder and an encoder, all made in a second. */
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Random } from '../../math/random.ts';
import { freshModel } from '../../models/new-model.ts';

const things = ['lamp', 'chair', 'kettle', 'bicycle', 'guitar', 'camera', 'tent', 'piano'];
const colours = ['red', 'green', 'blue', 'yellow', 'black', 'white'];
const places = ['kitchen', 'garden', 'attic', 'office'];

export interface World {
  folder: string;
  data: string;
  dualEncoder: string;
  crossEncoder: string;
  earlierCrossEncoder: string;
  /** Narrower than the dual-encoder. */
  student: string;
}

/** Documents are things with a colour and a place; queries name two of the three. */
export async function makeWorld(): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), 'pipelines-'));
  const data = join(folder, 'data');
  mkdirSync(join(data, 'qrels'), { recursive: true });
  const all = things.flatMap((t) => colours.flatMap((c) => places.map((p) => ({ t, c, p }))));
  Random.of(1, 'world').shuffle(all);
  const documents = all.slice(0, 120).map(({ t, c, p }, i) => ({
    _id: `d${i}`,
    title: `${c} ${t}`,
    text: `This ${t} is ${c}. It stands in the ${p} since last year and is still in good order.`,
  }));
  const queries = all
    .slice(0, 120)
    .map(({ t, c, p }, i) => ({ _id: `q${i}`, text: `${t} ${i % 2 ? c : ''} from the ${p}` }));
  const lines = (rows: readonly object[]): string => rows.map((r) => `${JSON.stringify(r)}\n`).join('');
  writeFileSync(join(data, 'corpus.jsonl'), lines(documents));
  writeFileSync(join(data, 'queries.jsonl'), lines(queries));
  const judge = (from: number, to: number): string =>
    `query-id\tcorpus-id\tscore\n${queries
      .slice(from, to)
      .map((q, i) => `${q._id}\td${from + i}\t1\n`)
      .join('')}`;
  // The last queries are judged nowhere.
  writeFileSync(join(data, 'qrels', 'train.tsv'), judge(0, 80));
  writeFileSync(join(data, 'qrels', 'dev.tsv'), judge(80, 90));
  writeFileSync(join(data, 'qrels', 'test.tsv'), judge(90, 110));

  const texts = [...documents.map((d) => `${d.title} ${d.text}`), ...queries.map((q) => q.text)];
  const table = { length: texts.length, text: (i: number) => texts[i] };
  const model = async (name: string, options: Parameters<typeof freshModel>[2]): Promise<string> => {
    await freshModel(join(folder, name), table, { vocabulary: 300, layers: 1, heads: 2, maxLength: 64, ...options });
    return join(folder, name);
  };
  return {
    folder,
    data,
    dualEncoder: await model('dual-encoder', { hidden: 32 }),
    crossEncoder: await model('cross-encoder', { hidden: 32, layers: 2, kind: 'cross-encoder', seed: 1 }),
    earlierCrossEncoder: await model('earlier-cross-encoder', { hidden: 32, kind: 'cross-encoder', seed: 3 }),
    student: await model('student', { hidden: 16, seed: 2 }),
  };
}
