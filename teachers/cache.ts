/** @file What teachers have said, kept by content: a second run asks nothing, a stopped one loses nothing. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { type Database, open, type RootDatabase } from 'lmdb';
import { FaultError, InputError } from '../common/errors.ts';
import type { Watch } from '../common/progress.ts';
import type { Texts } from '../students/encoder.ts';
import type { Embeddings, Pair, Teacher } from './teacher.ts';

/** Raised when the layout of keys or values changes. */
const VERSION = 1;
/** Pairs or texts handed to the teacher before their results are written: what a kill can cost. */
const CHUNK = 4096;

/** A store of scores and embeddings: key = hash of teacher, kind and text; value = float32 numbers behind their CRC-32. */
export class ScoreCache {
  private readonly path: string;
  private readonly root: RootDatabase;
  private readonly values: Database<Buffer, Buffer>;
  private readonly teachers: Database<{ name: string; kind: string }, string>;

  private constructor(path: string) {
    this.path = path;
    this.root = open({ path, maxDbs: 4, compression: false });
    const meta = this.root.openDB<number, string>({ name: 'meta' });
    const version = meta.get('version');
    if (version !== undefined && version > VERSION) {
      this.root.close();
      throw new InputError({
        code: 'cache.newer',
        subject: `the cache ${path} was written by a newer version (layout ${version})`,
        expected: `layout ${VERSION}`,
        remedy: 'update onnx-distill or choose another folder under cache',
      });
    }
    if (version === undefined) meta.putSync('version', VERSION);
    this.values = this.root.openDB({ name: 'values', keyEncoding: 'binary', encoding: 'binary' });
    this.teachers = this.root.openDB({ name: 'teachers' });
  }

  /** @throws InputError where the folder cannot hold a store or the store is from a newer version */
  static open(path: string): ScoreCache {
    try {
      return new ScoreCache(path);
    } catch (cause) {
      if (cause instanceof InputError) throw cause;
      throw new InputError({
        code: 'cache.unusable',
        subject: `cannot use ${path} as a cache (${(cause as Error).message})`,
        remedy: 'choose another folder under cache, or remove this one',
        cause,
      });
    }
  }

  /** Numbers kept under a key; undefined where there are none or they are damaged. */
  get(key: Buffer): Float32Array | undefined {
    const value = this.values.get(key);
    if (!value || value.length < 8 || value.length % 4) return undefined;
    if (value.readUInt32LE(0) !== crc32(value.subarray(4))) return undefined;
    const numbers = new Float32Array(value.length / 4 - 1);
    Buffer.from(numbers.buffer).set(value.subarray(4));
    return numbers;
  }

  /** Writes all or nothing, on disk when it returns. */
  async put(entries: readonly { key: Buffer; numbers: Float32Array }[]): Promise<void> {
    try {
      // lmdb's own queue of writes never settles once one failed for want of space; a transaction in this thread throws.
      this.values.transactionSync(() => {
        for (const { key, numbers } of entries) {
          const value = Buffer.alloc(4 + numbers.byteLength);
          value.set(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength), 4);
          value.writeUInt32LE(crc32(value.subarray(4)), 0);
          this.values.putSync(key, value);
        }
      });
      await this.root.flushed;
    } catch (cause) {
      throw new FaultError({
        code: 'cache.write-failed',
        subject: `cannot write the cache ${this.path} (${(cause as Error).message})`,
        remedy: "free space or choose another folder under 'cache' and run the same command again, what was kept stays",
        cause,
      });
    }
  }

  /** The teacher, asked only what it has not said before. */
  wrap(teacher: Teacher): Teacher {
    // For people who look into the store. A full disk is told where scores are written.
    try {
      if (!this.teachers.get(teacher.key))
        this.teachers.putSync(teacher.key, { name: teacher.name, kind: teacher.kind });
    } catch {}
    const { embed, embedTokens } = teacher;
    return {
      ...teacher,
      score: async (pairs, watch) => {
        const key = (p: Pair): Buffer => keyOf(teacher.key, 'score', p.query, p.document);
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
            (i) => keyOf(teacher.key, kind, text(i)),
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
            (i) => keyOf(teacher.key, 'tokens', sequences[i].join(' ')),
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
    await this.root.close();
  }

  /** Looks everything up, asks for what is missing in chunks, writes each chunk down before the next. */
  private async through(
    n: number,
    key: (i: number) => Buffer,
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
    for (let i = 0; i < n; i++) {
      const numbers = this.get(key(i));
      if (numbers && (!dimensions || numbers.length === dimensions)) place(i, numbers);
      else missing.push(i);
    }
    const known = n - missing.length;
    if (known && missing.length)
      watch.onProgress?.({ stage, done: known, total: n, unit, note: `${known} of ${n} ${unit} were in the cache` });
    for (let at = 0; at < missing.length; at += CHUNK) {
      watch.signal?.throwIfAborted();
      const chunk = missing.slice(at, at + CHUNK);
      const onProgress =
        watch.onProgress &&
        ((p: { done: number }) => watch.onProgress?.({ stage, done: known + at + p.done, total: n, unit }));
      const answers = await ask(chunk, { signal: watch.signal, onProgress });
      for (const [k, i] of chunk.entries()) place(i, answers[k]);
      await this.put(chunk.map((i, k) => ({ key: key(i), numbers: answers[k] })));
      watch.onProgress?.({ stage, done: known + at + chunk.length, total: n, unit });
    }
    return { dimensions, data };
  }
}

function keyOf(teacher: string, ...parts: string[]): Buffer {
  const hash = createHash('sha256').update(teacher);
  for (const part of parts) hash.update(`\0${Buffer.byteLength(part)}:`).update(part);
  return hash.digest();
}
