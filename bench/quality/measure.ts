/** @file The material that both sides share, one training of the toolkit on a clock, and the quality of the vectors that come out. */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeWhole } from '../../common/files.ts';
import { type Dataset, judgedQueries, type Texts, textsAt } from '../../data/dataset.ts';
import { openDataset } from '../../data/open.ts';
import { TextTokenizer } from '../../data/tokenizer.ts';
import { means, retrieve } from '../../evaluation/systems/retrieve.ts';
import { generateTexts } from '../../generation/spans.ts';
import { distill } from '../../pipelines/distill.ts';
import { openEncoder } from '../../serving/encoder/encoder.ts';
import { defaultCache, ScoreCache } from '../../teachers/cache/score-cache.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';
import { embed } from '../../teachers/teacher.ts';
import { type Measured, PROVIDER, round, SHARED } from '../peers/peers.ts';
import { LIMITS, optionsOf, SPANS, TEACHER, type Tower } from './recipes.ts';

const METRIC = 'ndcg@10';

/** Texts, a JSON line each, and float32 vectors, row-major: what sentence-transformers' side reads in place of the cache. */
async function write(folder: string, name: string, texts: readonly string[], data: Float32Array): Promise<void> {
  await writeWhole(join(folder, `${name}.f32`), new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  await writeWhole(join(folder, `${name}.jsonl`), texts.map((t) => `${JSON.stringify(t)}\n`).join(''));
}

/** What the teacher gives, made once through the cache: the clock of neither side counts it. */
export async function prepare(tower: Tower, folder: string): Promise<void> {
  const wanted = ['documents', 'train', 'dev', 'test', ...(tower === 'static' ? ['spans', 'tokens'] : [])];
  const absent = wanted.filter((name) => !existsSync(join(folder, `${name}.jsonl`)));
  if (!absent.length) return;
  await mkdir(folder, { recursive: true });
  const data = await openDataset(join(SHARED, 'data/debian'), {});
  const cache = await ScoreCache.open(defaultCache());
  const teacher = cache.wrap(await dualEncoder(join(SHARED, TEACHER), LIMITS));
  const onProgress = ({ done, total, stage }: { done: number; total?: number; stage: string }): void => {
    if (process.stderr.isTTY) process.stderr.write(`\r${stage} ${done}/${total} `);
  };
  const all = ({ length, text }: Texts): string[] => Array.from({ length }, (_, i) => text(i));
  try {
    const tokenizer = await TextTokenizer.load(join(SHARED, TEACHER));
    for (const name of absent)
      if (name === 'tokens') {
        // A static tower starts from what the teacher makes of each token alone.
        const ids = Array.from({ length: tokenizer.vocabularySize }, (_, id) => [id]);
        const embedTokens = teacher.embedTokens as NonNullable<typeof teacher.embedTokens>;
        await write(folder, name, [], (await embedTokens(ids, { onProgress })).data);
      } else {
        const texts =
          name === 'documents'
            ? all(data.documents)
            : name === 'spans'
              ? generateTexts(data.documents, { kind: 'spans', count: SPANS, tokens: [5, 13] }, tokenizer, 0)
              : all(textsAt(data, judgedQueries(data, name)));
        const kind = name === 'documents' ? 'document' : 'query';
        await write(folder, name, texts, (await embed(teacher)(texts, kind, { onProgress })).data);
      }
  } finally {
    await teacher.dispose();
    await cache.close();
  }
}

const floats = async (file: string): Promise<Float32Array> => {
  const { buffer, byteOffset, byteLength } = await readFile(file);
  return new Float32Array(buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer);
};

/** Vectors of the dev and the test queries, one after the other, and of the documents where the student embeds them. */
export interface Embedded {
  queries: string;
  documents?: string;
}

/** nDCG@10 over all documents, of dev and of test. */
export async function qualityOf(folder: string, found: Embedded): Promise<{ dev: number; test: number }> {
  const data = await openDataset(join(SHARED, 'data/debian'), {});
  const documents = await floats(found.documents ?? join(folder, 'documents.f32'));
  const queries = await floats(found.queries);
  const dimensions = documents.length / data.documents.length;
  const dev = judgedQueries(data, 'dev').length * dimensions;
  const of = (split: string, vectors: Float32Array): Promise<number> =>
    score(data, split, vectors, { dimensions, data: documents });
  return { dev: await of('dev', queries.subarray(0, dev)), test: await of('test', queries.subarray(dev)) };
}

async function score(
  dataset: Dataset,
  split: string,
  data: Float32Array,
  documents: { dimensions: number; data: Float32Array },
): Promise<number> {
  const searcher = { queries: async () => ({ dimensions: documents.dimensions, data }), documents };
  const { run } = await retrieve(searcher, { dataset, split, depth: 10 }, {});
  return means(run, dataset, split, [METRIC])[METRIC];
}

/** The teacher's own figures. */
export async function teacherQuality(folder: string): Promise<{ dev: number; test: number }> {
  const both = join(folder, 'teacher.f32');
  await writeFile(
    both,
    Buffer.concat([await readFile(join(folder, 'dev.f32')), await readFile(join(folder, 'test.f32'))]),
  );
  return qualityOf(folder, { queries: both });
}

/** One training, on a clock from a warm cache to its last step; reading the data and loading the model included. */
export async function measure(tower: Tower, steps: number, folder: string): Promise<Measured> {
  const output = join(folder, `ours-${tower}-${process.pid}`);
  const [started, before] = [performance.now(), process.cpuUsage()];
  let [wall, cpu] = [0, 0];
  try {
    const report = await distill(optionsOf(tower, steps, { shared: SHARED, output }), {
      onProgress({ stage, done, total }) {
        if (stage !== 'train' || done !== total || wall) return;
        wall = (performance.now() - started) / 1000;
        const { user, system } = process.cpuUsage(before);
        cpu = (user + system) / 1e6;
      },
    });
    const data = await openDataset(join(SHARED, 'data/debian'), {});
    const encoder = await openEncoder(report.checkpoint, { provider: PROVIDER });
    const vectors: Float32Array[] = [];
    for (const split of ['dev', 'test'])
      vectors.push(await encoder.embedQueries(textsAt(data, judgedQueries(data, split))));
    const queries = join(folder, `ours-${tower}-queries.f32`);
    await writeFile(queries, Buffer.concat(vectors.map((v) => Buffer.from(v.buffer, v.byteOffset, v.byteLength))));
    const documents = join(folder, `ours-${tower}-documents.f32`);
    if (tower === 'assistant') {
      const { buffer, byteOffset, byteLength } = await encoder.embedDocuments(data.documents);
      await writeFile(documents, new Uint8Array(buffer, byteOffset, byteLength));
    }
    await encoder.dispose();
    return {
      engine: 'onnx-distill',
      tower,
      steps,
      seconds: round(wall, 1),
      cpu_seconds: round(cpu, 1),
      queries,
      ...(tower === 'assistant' && { documents }),
    };
  } finally {
    await rm(output, { recursive: true, force: true });
  }
}
