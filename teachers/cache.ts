/** @file What teachers have said, kept by content: a second run asks nothing, a stopped one loses nothing. */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { type Database, open, type RootDatabase } from 'lmdb';
import { FaultError, InputError } from '../common/errors.ts';
import { allFinite, firstNotFinite } from '../common/finite.ts';
import type { Progress, Watch } from '../common/progress.ts';
import type { Texts } from '../students/encoder.ts';
import type { Embeddings, Pair, Teacher } from './teacher.ts';

/** Raised when the layout of keys or values changes. */
const VERSION = 1;
/** Pairs or texts handed to the teacher before their results are written: what a kill can cost. */
const CHUNK = 4096;

/** What happens where a teacher's answer is no finite number: a fault that names the text, or it stays out and is counted. */
export type OnNonFinite = 'stop' | 'skip';

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

  /** Numbers kept under a key; undefined where there are none, or they are damaged or not finite. */
  get(key: Buffer): Float32Array | undefined {
    const value = this.values.get(key);
    if (!value || value.length < 8 || value.length % 4) return undefined;
    if (value.readUInt32LE(0) !== crc32(value.subarray(4))) return undefined;
    const numbers = new Float32Array(value.length / 4 - 1);
    Buffer.from(numbers.buffer).set(value.subarray(4));
    return allFinite(numbers) ? numbers : undefined;
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

  /**
   * The teacher, asked only what it has not said before. Only finite numbers are kept.
   * @param onNonFinite with `skip`, what is not finite comes through as it is, with a note that counts it
   * @throws FaultError from its functions, where an answer is not finite and that is to stop
   */
  wrap(teacher: Teacher, onNonFinite: OnNonFinite = 'stop'): Teacher {
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
          {
            n: pairs.length,
            key: (i) => key(pairs[i]),
            label: (i) => `the query '${pairs[i].queryId}' with the document '${pairs[i].documentId}'`,
            width: 1,
            stage: 'score',
            unit: 'pairs',
            teacher: teacher.name,
            onNonFinite,
            async ask(missing, inner) {
              const scores = await teacher.score(
                missing.map((i) => pairs[i]),
                inner,
              );
              return missing.map((_, k) => scores.subarray(k, k + 1));
            },
          },
          watch,
        );
        return found.data;
      },
      ...(embed && {
        embed: async (texts, kind, watch) => {
          const text = Array.isArray(texts)
            ? (i: number) => (texts as string[])[i]
            : (i: number) => (texts as Texts).text(i);
          const ids = Array.isArray(texts) ? undefined : (texts as Texts).ids;
          return this.through(
            {
              n: texts.length,
              key: (i) => keyOf(teacher.key, kind, text(i)),
              label: (i) => `the ${kind} ${ids ? `'${ids[i]}'` : JSON.stringify(text(i).slice(0, 60))}`,
              width: 0,
              stage: `embed ${kind === 'query' ? 'queries' : 'documents'}`,
              unit: 'texts',
              teacher: teacher.name,
              onNonFinite,
              async ask(missing, inner) {
                const { dimensions, data } = await embed(missing.map(text), kind, inner);
                return missing.map((_, k) => data.subarray(k * dimensions, (k + 1) * dimensions));
              },
            },
            watch,
          );
        },
      }),
      ...(embedTokens && {
        embedTokens: (sequences, watch) =>
          this.through(
            {
              n: sequences.length,
              key: (i) => keyOf(teacher.key, 'tokens', sequences[i].join(' ')),
              label: (i) => `the tokens ${sequences[i].join(' ')}`,
              width: 0,
              stage: 'embed tokens',
              unit: 'texts',
              teacher: teacher.name,
              onNonFinite,
              async ask(missing, inner) {
                const { dimensions, data } = await embedTokens(
                  missing.map((i) => sequences[i]),
                  inner,
                );
                return missing.map((_, k) => data.subarray(k * dimensions, (k + 1) * dimensions));
              },
            },
            watch,
          ),
      }),
    };
  }

  async close(): Promise<void> {
    await this.root.close();
  }

  /** Looks everything up, asks for what is missing in chunks, writes each chunk down before the next. */
  private async through(question: Question, watch: Watch = {}): Promise<Embeddings> {
    const { n, key, width, stage, unit, ask } = question;
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
    let broken = 0;
    const known = n - missing.length;
    if (known && missing.length)
      watch.onProgress?.({ stage, done: known, total: n, unit, note: `${known} of ${n} ${unit} were in the cache` });
    for (let at = 0; at < missing.length; at += CHUNK) {
      watch.signal?.throwIfAborted();
      const chunk = missing.slice(at, at + CHUNK);
      const onProgress =
        watch.onProgress &&
        ((p: Progress) =>
          watch.onProgress?.(p.note === undefined ? { stage, done: known + at + p.done, total: n, unit } : p));
      const answers = await ask(chunk, { ...watch, onProgress });
      for (const [k, i] of chunk.entries()) place(i, answers[k]);
      const whole = chunk.flatMap((i, k) => (allFinite(answers[k]) ? [{ key: key(i), numbers: answers[k] }] : []));
      await this.put(whole);
      if (whole.length < chunk.length) {
        const at = answers.findIndex((a) => !allFinite(a));
        if (question.onNonFinite === 'stop') throw notFinite(question, chunk[at], answers[at]);
        broken += chunk.length - whole.length;
      }
      watch.onProgress?.({ stage, done: known + at + chunk.length, total: n, unit });
    }
    if (broken) {
      const note = `warning: what ${question.teacher} says of ${broken} of ${n} ${unit} is not finite`;
      watch.onProgress?.({ stage, done: n, total: n, unit, note });
    }
    return { dimensions, data };
  }
}

/** What is asked of a teacher, item by item. */
interface Question {
  n: number;
  key(i: number): Buffer;
  /** How messages name an item. */
  label(i: number): string;
  /** Numbers an item; 0 where the first answer says it. */
  width: number;
  stage: string;
  unit: string;
  teacher: string;
  onNonFinite: OnNonFinite;
  ask(missing: number[], watch: Watch): Promise<Float32Array[]>;
}

function notFinite({ teacher, label, unit, stage }: Question, i: number, answer: Float32Array): FaultError {
  const at = firstNotFinite(answer);
  return new FaultError({
    code: 'teacher.not-finite',
    subject: `what ${teacher} says of ${label(i)} is ${answer[at]}${answer.length > 1 ? ` in dimension ${at}` : ''} (${stage})`,
    remedy: `mend the model or remove the text, or set train.onNonFinite to skip, which leaves such ${unit} out and counts them; what it has said of others is kept`,
  });
}

function keyOf(teacher: string, ...parts: string[]): Buffer {
  const hash = createHash('sha256').update(teacher);
  for (const part of parts) hash.update(`\0${Buffer.byteLength(part)}:`).update(part);
  return hash.digest();
}
