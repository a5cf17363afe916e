/** @file What teachers have said, kept by content: a second run asks nothing, a stopped one loses nothing. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Watch } from '../common/progress.ts';
import type { Texts } from '../students/encoder.ts';
import { type RecordKey, RecordStore, recordKey, sourceId } from './store.ts';
import type { Embeddings, Pair, Teacher } from './teacher.ts';

/** Pairs or texts handed to the teacher before their results are written: what a kill can cost. */
const CHUNK = 1024;

/** Scores and embeddings of teachers, behind which a teacher is asked only what it has not said before. */
export class ScoreCache {
  /** Scores and embeddings that were asked for because they were not kept. */
  asked = 0;
  private readonly store: RecordStore;

  private constructor(store: RecordStore) {
    this.store = store;
  }

  /** @throws InputError where the folder cannot hold a store or the store is from a newer version */
  static async open(path: string): Promise<ScoreCache> {
    return new ScoreCache(await RecordStore.open(path));
  }

  /** The cache of a folder that has one. */
  static async openIfThere(path: string): Promise<ScoreCache | undefined> {
    return existsSync(join(path, 'data.mdb')) ? ScoreCache.open(path) : undefined;
  }

  /** How many of the pairs a teacher would be asked about. @param teacher its key */
  missingScores(teacher: string, pairs: readonly Pick<Pair, 'query' | 'document'>[]): number {
    const id = sourceId(teacher);
    return this.missing(pairs.length, (i) => recordKey(teacher, id, 'score', pairs[i].query, pairs[i].document));
  }

  /** How many of the texts a teacher would be asked to embed. @param teacher its key */
  missingEmbeddings(teacher: string, kind: 'query' | 'document', texts: Texts): number {
    const id = sourceId(teacher);
    return this.missing(texts.length, (i) => recordKey(teacher, id, kind, texts.text(i)));
  }

  private missing(n: number, key: (i: number) => RecordKey): number {
    let missing = 0;
    for (let i = 0; i < n; i++) if (!this.store.get(key(i))) missing++;
    return missing;
  }

  /** The teacher, asked only what it has not said before. */
  wrap(teacher: Teacher): Teacher {
    const id = sourceId(teacher.key);
    this.store.use(id, { key: teacher.key, name: teacher.name, kind: teacher.kind, tokenizer: teacher.tokenizer });
    const { embed, embedTokens } = teacher;
    return {
      ...teacher,
      score: async (pairs, watch) => {
        const key = (p: Pair): RecordKey => recordKey(teacher.key, id, 'score', p.query, p.document);
        const found = await this.through(
          pairs.length,
          (i) => key(pairs[i]),
          1,
          watch,
          'score',
          'pairs',
          async (missing, inner) => {
            const scores = await teacher.score(
              missing.map((i) => pairs[i]),
              inner,
            );
            return missing.map((_, k) => scores.subarray(k, k + 1));
          },
        );
        return found.data;
      },
      ...(embed && {
        embed: async (texts, kind, watch) => {
          const text = Array.isArray(texts)
            ? (i: number) => (texts as string[])[i]
            : (i: number) => (texts as Texts).text(i);
          return this.through(
            texts.length,
            (i) => recordKey(teacher.key, id, kind, text(i)),
            0,
            watch,
            `embed ${kind === 'query' ? 'queries' : 'documents'}`,
            'texts',
            async (missing, inner) => {
              const { dimensions, data } = await embed(missing.map(text), kind, inner);
              return missing.map((_, k) => data.subarray(k * dimensions, (k + 1) * dimensions));
            },
          );
        },
      }),
      ...(embedTokens && {
        embedTokens: (sequences, watch) =>
          this.through(
            sequences.length,
            (i) => recordKey(teacher.key, id, 'tokens', sequences[i].join(' ')),
            0,
            watch,
            'embed tokens',
            'texts',
            async (missing, inner) => {
              const { dimensions, data } = await embedTokens(
                missing.map((i) => sequences[i]),
                inner,
              );
              return missing.map((_, k) => data.subarray(k * dimensions, (k + 1) * dimensions));
            },
          ),
      }),
    };
  }

  async close(): Promise<void> {
    await this.store.close();
  }

  /** Looks everything up, asks for what is missing in chunks, writes each chunk down before the next. */
  private async through(
    n: number,
    key: (i: number) => RecordKey,
    width: number,
    watch: Watch = {},
    stage: string,
    unit: string,
    ask: (missing: number[], watch: Watch) => Promise<Float32Array[]>,
  ): Promise<Embeddings> {
    let dimensions = width;
    let data = new Float32Array(n * width);
    const missing: number[] = [];
    const place = (i: number, numbers: Float32Array): void => {
      if (!dimensions) {
        dimensions = numbers.length;
        data = new Float32Array(n * dimensions);
      }
      data.set(numbers, i * dimensions);
    };
    const damagedBefore = this.store.damaged;
    for (let i = 0; i < n; i++) {
      const numbers = this.store.get(key(i));
      if (numbers && (!dimensions || numbers.length === dimensions)) place(i, numbers);
      else missing.push(i);
    }
    const known = n - missing.length;
    const damaged = this.store.damaged - damagedBefore;
    if (damaged) {
      const note = `${damaged} damaged ${damaged === 1 ? 'value' : 'values'} in the cache: made again`;
      watch.onProgress?.({ stage, done: known, total: n, unit, note });
    }
    if (known && missing.length)
      watch.onProgress?.({ stage, done: known, total: n, unit, note: `${known} of ${n} ${unit} were in the cache` });
    for (let at = 0; at < missing.length; at += CHUNK) {
      watch.signal?.throwIfAborted();
      const chunk = missing.slice(at, at + CHUNK);
      const onProgress =
        watch.onProgress &&
        ((p: { done: number }) => watch.onProgress?.({ stage, done: known + at + p.done, total: n, unit }));
      const answers = await ask(chunk, { signal: watch.signal, onProgress });
      this.asked += chunk.length;
      for (const [k, i] of chunk.entries()) place(i, answers[k]);
      await this.store.put(chunk.map((i, k) => ({ key: key(i), numbers: answers[k] })));
      watch.onProgress?.({ stage, done: known + at + chunk.length, total: n, unit });
    }
    return { dimensions, data };
  }
}
