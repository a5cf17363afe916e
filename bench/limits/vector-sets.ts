/**
 * @file Vectors that searches are measured on, kept in a folder for the next time: embeddings of a data set, and token states of
 * its texts, of which 30,000 documents give more than a million, all of them real.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { writeWhole } from '../../common/files.ts';
import { lengthBatches, padBatch } from '../../data/batches.ts';
import { type Dataset, judgedQueries, type Texts, textsAt } from '../../data/dataset.ts';
import { openDataset } from '../../data/open.ts';
import { batchTokens, Session } from '../../engine/runtime/session.ts';
import { describeEncoder } from '../../models/encoder.ts';
import { openEncoder } from '../../serving/encoder/encoder.ts';

/** Queries and documents, row-major. */
export interface VectorSet {
  dimensions: number;
  documents: Float32Array;
  queries: Float32Array;
}

/** The embeddings of a data set, and what judges them. `positions` are the queries' in the data set: test, then dev. */
export interface JudgedSet extends VectorSet {
  dataset: Dataset;
  positions: number[];
  /** How many of the queries are of the split test. */
  test: number;
}

export async function embeddings(
  model: string,
  data: string,
  folder: string,
  limits: { queryTokens?: number; documentTokens?: number } = {},
): Promise<JudgedSet> {
  const dataset = await openDataset(data);
  const test = judgedQueries(dataset, 'test');
  const positions = [...test, ...judgedQueries(dataset, 'dev')];
  const encoder = await openEncoder(model, limits);
  const { dimensions } = encoder;
  const name = `${basename(data)}-${basename(model)}`;
  const watch = progress();
  const queries = await kept(join(folder, `${name}-queries.f32`), () =>
    encoder.embedQueries(textsAt(dataset, positions), watch),
  );
  const documents = await kept(join(folder, `${name}-documents.f32`), () =>
    encoder.embedDocuments(dataset.documents, watch),
  );
  await encoder.dispose();
  return { dataset, positions, test: test.length, dimensions, documents, queries };
}

/**
 * States of a model's last layer at unit length, one a token, special tokens left out: of the first documents, and of queries.
 * @param count of the documents' tokens; @param asked of the queries', every tenth, so that they are of many queries
 */
export async function tokenStates(
  model: string,
  data: string,
  folder: string,
  { count, asked }: { count: number; asked: number },
): Promise<VectorSet> {
  const dataset = await openDataset(data);
  const name = `${basename(data)}-${basename(model)}-tokens`;
  const documents = await kept(join(folder, `${name}-${count}-documents.f32`), () =>
    states(model, dataset.documents, count),
  );
  const questions = textsAt(dataset, judgedQueries(dataset, 'test'));
  const dimensions = documents.length / count;
  const queries = await kept(join(folder, `${name}-${asked}-queries.f32`), async () => {
    const all = await states(model, questions, 10 * asked);
    const tenths = new Float32Array(asked * dimensions);
    for (let i = 0; i < asked; i++)
      tenths.set(all.subarray(10 * i * dimensions, (10 * i + 1) * dimensions), i * dimensions);
    return tenths;
  });
  return { dimensions, documents, queries };
}

/** Texts tokenised at a time, of which batches of like length are made; tokens a text at most. */
const [CHUNK, LIMIT] = [1024, 192];

async function states(model: string, texts: Texts, count: number): Promise<Float32Array> {
  const { files, tokenizer } = await describeEncoder(model);
  const session = await Session.open({ path: files.model });
  const watch = progress();
  let out = new Float32Array(0);
  let done = 0;
  for (let from = 0; from < texts.length && done < count; from += CHUNK) {
    const rows = Array.from({ length: Math.min(CHUNK, texts.length - from) }, (_, i) =>
      tokenizer.encode(texts.text(from + i), LIMIT),
    );
    const places = rows.map(({ ids }) => {
      const place = done;
      done += ids.length - 2;
      return place;
    });
    for (const batch of lengthBatches(
      rows.map((r) => r.ids.length),
      batchTokens(),
    )) {
      const {
        ids,
        mask,
        typeIds,
        rows: n,
        length,
      } = padBatch(
        batch.map((i) => rows[i]),
        tokenizer.padId,
      );
      const dims = [n, length];
      const { last_hidden_state: found } = await session.run({
        input_ids: { dtype: 'int64', dims, data: ids },
        attention_mask: { dtype: 'int64', dims, data: mask },
        token_type_ids: { dtype: 'int64', dims, data: typeIds },
      });
      const values = found.data as Float32Array;
      const width = found.dims[2];
      if (!out.length) out = new Float32Array(count * width);
      for (const [r, i] of batch.entries())
        for (let t = 1; t < rows[i].ids.length - 1 && places[i] + t - 1 < count; t++) {
          const state = values.subarray((r * length + t) * width, (r * length + t + 1) * width);
          const norm = Math.hypot(...state);
          for (let k = 0, at = (places[i] + t - 1) * width; k < width; k++) out[at + k] = state[k] / norm;
        }
    }
    watch.onProgress({ stage: 'token states', done: Math.min(done, count), total: count, unit: 'tokens' });
  }
  await session.release();
  if (done < count) throw new RangeError(`${texts.length} texts have ${done} tokens, and ${count} are asked for`);
  return out;
}

/** A line every ten seconds. */
function progress() {
  let said = 0;
  return {
    onProgress({ stage, done, total }: { stage: string; done: number; total?: number; unit: string }) {
      if (performance.now() - said < 10_000) return;
      said = performance.now();
      console.error(`${stage} ${done}/${total}`);
    },
  };
}

/** Read where the file is there, else made and written; in pieces, since a file of 2 GiB cannot be read at once. */
async function kept(file: string, make: () => Promise<Float32Array>): Promise<Float32Array> {
  if (!existsSync(file)) {
    const made = await make();
    mkdirSync(join(file, '..'), { recursive: true });
    await writeWhole(file, new Uint8Array(made.buffer, made.byteOffset, made.byteLength));
    return made;
  }
  const handle = await open(file);
  try {
    const { size } = await handle.stat();
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size; ) at += (await handle.read(bytes, at, Math.min(1 << 28, size - at), at)).bytesRead;
    return new Float32Array(bytes.buffer);
  } finally {
    await handle.close();
  }
}
