/** @file Cache of teacher scores and embeddings by content: a second run scores nothing, a stopped one loses nothing. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { FaultError } from '../../common/errors.ts';
import type { Progress, RunControl } from '../../common/progress.ts';
import type { Texts } from '../../data/dataset.ts';
import { listOnDemand } from '../../data/table/ids.ts';
import { allFinite, firstNotFinite } from '../../math/finite.ts';
import { type Embeddings, Interrupted, otherModel, type Pair, type Teacher } from '../teacher.ts';
import { RecordStore, recordKey, sourceId } from './record-store.ts';

/** The folder of the cache where options name none. */
export const defaultCache = (): string => join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'onnx-distill');

/** Pairs or texts scored before their results are written: the most that a kill loses. */
const CHUNK = 1024;

/** What to do about non-finite teacher scores: fail with the text's id, or leave them out and count them. */
export type OnNonFinite = 'stop' | 'skip';

/** Cached scores and embeddings of teachers: a teacher computes only what is missing. */
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

  /** How many of the pairs a teacher would have to score. @param teacher its key */
  missingScores(teacher: string, pairs: readonly Pick<Pair, 'query' | 'document'>[]): number {
    const id = sourceId(teacher);
    return this.missing(pairs.length, (i) => recordKey(teacher, id, 'score', pairs[i].query, pairs[i].document));
  }

  /** How many of the texts (of token ids, joined by spaces) a teacher would be asked to embed. @param teacher its key */
  missingEmbeddings(teacher: string, kind: 'query' | 'document' | 'tokens', texts: Texts): number {
    const id = sourceId(teacher);
    return this.missing(texts.length, (i) => recordKey(teacher, id, kind, texts.text(i)));
  }

  private missing(n: number, key: (i: number) => Buffer): number {
    let missing = 0;
    for (let i = 0; i < n; i++) if (!this.store.get(key(i))) missing++;
    return missing;
  }

  /**
   * Wraps a teacher so that it computes only what is missing. Only finite numbers are cached.
   * @param onNonFinite with `skip`, what is not finite comes through as it is, with a note that counts it
   * @throws FaultError from its functions, where an answer is not finite and that is to stop
   */
  wrap(teacher: Teacher, onNonFinite: OnNonFinite = 'stop'): Teacher {
    const id = sourceId(teacher.key);
    const source = { key: teacher.key, name: teacher.name, kind: teacher.kind, tokenizer: teacher.tokenizer };
    this.store.use(id, source);
    const { embed, embedTokens } = teacher;
    /** @throws FaultError where a service answers as another model than the one whose numbers are kept */
    const settle = (): void => {
      const [before, now] = [this.store.served(id), teacher.served?.()];
      if (now === undefined || now === before) return;
      if (before !== undefined) throw otherModel(teacher.name, before, now);
      this.store.use(id, { ...source, served: now });
    };
    return {
      ...teacher,
      score: async (pairs, watch) => {
        const key = (p: Pair): Buffer => recordKey(teacher.key, id, 'score', p.query, p.document);
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
              // The texts of a pair are read when the teacher asks for it.
              const asked = listOnDemand(missing.length, (k) => pairs[missing[k]]);
              const scores = await teacher.score(asked, inner).finally(settle);
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
              key: (i) => recordKey(teacher.key, id, kind, text(i)),
              label: (i) => `the ${kind} ${ids ? `'${ids[i]}'` : JSON.stringify(text(i).slice(0, 60))}`,
              width: 0,
              stage: `embed ${kind === 'query' ? 'queries' : 'documents'}`,
              unit: 'texts',
              teacher: teacher.name,
              onNonFinite,
              async ask(missing, inner) {
                const { dimensions, data } = await embed(missing.map(text), kind, inner).finally(settle);
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
              key: (i) => recordKey(teacher.key, id, 'tokens', sequences[i].join(' ')),
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

  /** Closes the store; what was put is on disk. */
  async close(): Promise<void> {
    await this.store.close();
  }

  /** Looks everything up, computes the missing results in chunks, and writes each chunk before the next. */
  private async through(question: Question, watch: RunControl = {}): Promise<Embeddings> {
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
    const damagedBefore = this.store.damaged;
    for (let i = 0; i < n; i++) {
      const numbers = this.store.get(key(i));
      // A record that is not finite is asked for again.
      if (numbers && (!dimensions || numbers.length === dimensions) && allFinite(numbers)) place(i, numbers);
      else missing.push(i);
    }
    let broken = 0;
    const known = n - missing.length;
    const damaged = this.store.damaged - damagedBefore;
    if (damaged) {
      const note = `${damaged} damaged ${damaged === 1 ? 'value' : 'values'} in the cache: computed again`;
      watch.onProgress?.({ stage, done: known, total: n, unit, note });
    }
    if (known && missing.length)
      watch.onProgress?.({ stage, done: known, total: n, unit, note: `${known} of ${n} ${unit} were in the cache` });
    for (let at = 0; at < missing.length; at += CHUNK) {
      watch.signal?.throwIfAborted();
      const chunk = missing.slice(at, at + CHUNK);
      const onProgress =
        watch.onProgress &&
        ((p: Progress) =>
          watch.onProgress?.(p.note === undefined ? { stage, done: known + at + p.done, total: n, unit } : p));
      const answers = await ask(chunk, { ...watch, onProgress }).catch(async (error: unknown) => {
        if (error instanceof Interrupted) {
          const came = chunk.flatMap((i, k) => {
            const numbers = error.answers[k];
            return numbers && (!dimensions || numbers.length === dimensions) && allFinite(numbers)
              ? [{ key: key(i), numbers }]
              : [];
          });
          await this.store.put(came);
          this.asked += came.length;
        }
        throw error;
      });
      this.asked += chunk.length;
      const expected = dimensions || answers[0]?.length;
      const other = answers.find((a) => a.length !== expected);
      if (other) throw otherWidth(question, other.length, expected);
      for (const [k, i] of chunk.entries()) place(i, answers[k]);
      const whole = chunk.flatMap((i, k) => (allFinite(answers[k]) ? [{ key: key(i), numbers: answers[k] }] : []));
      await this.store.put(whole);
      if (whole.length < chunk.length) {
        const at = answers.findIndex((a) => !allFinite(a));
        if (question.onNonFinite === 'stop') throw notFinite(question, chunk[at], answers[at]);
        broken += chunk.length - whole.length;
      }
      watch.onProgress?.({ stage, done: known + at + chunk.length, total: n, unit });
    }
    if (broken) {
      const note = `warning: ${question.teacher} gives non-finite values for ${broken} of ${n} ${unit}`;
      watch.onProgress?.({ stage, done: n, total: n, unit, note });
    }
    return { dimensions, data };
  }
}

/** A request to a teacher, item by item. */
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
  ask(missing: number[], watch: RunControl): Promise<Float32Array[]>;
}

const otherWidth = ({ teacher, stage }: Question, width: number, expected: number): FaultError =>
  new FaultError({
    code: 'teacher.other-width',
    subject: `${teacher} gives vectors of ${width} numbers where those that came before have ${expected} (${stage})`,
    remedy:
      "its model was changed under the same name: choose another folder under 'cache', or name the model that is kept",
  });

function notFinite({ teacher, label, unit, stage }: Question, i: number, answer: Float32Array): FaultError {
  const at = firstNotFinite(answer);
  return new FaultError({
    code: 'teacher.not-finite',
    subject: `${teacher} gives ${label(i)} ${answer[at]}${answer.length > 1 ? ` in dimension ${at}` : ''} (${stage})`,
    remedy: `fix the model or remove the text, or set train.onNonFinite to skip, which leaves such ${unit} out and counts them; the values of other ${unit} are kept`,
  });
}
