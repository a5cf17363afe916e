/**
 * @file What carries pairs to teachers on other machines and brings their scores back: the one interface that scoring through a
 * queue is written against.
 */
import { z } from 'zod';
import { hashAll } from '../../common/files.ts';
import { firstNotFinite } from '../../math/finite.ts';
import type { Pair } from '../teacher.ts';

const count = z.int().positive().optional();
const text = z.string().optional();

/** A teacher that another process can open: what its folder or hub name is, how texts are cut, and the key it must come out with. */
export const teacherNameSchema = z.strictObject({
  key: z.string().min(1),
  kind: z.enum(['cross-encoder', 'dual-encoder', 'generative']),
  model: z.string().min(1),
  queryTokens: count,
  documentTokens: count,
  maxLength: count,
  /** How its scores are read. */
  label: z.union([z.string(), z.int().nonnegative()]).optional(),
  output: text,
  template: text,
  yes: text,
  no: z.string().nullable().optional(),
  instruction: text,
  prompts: z.strictObject({ query: z.string().optional(), document: z.string().optional() }).optional(),
});
export type TeacherName = z.output<typeof teacherNameSchema>;

/** A range of pairs. Texts travel with it: a worker needs the model and nothing else, and cannot read other data by mistake. */
export const scoreJobSchema = z.strictObject({
  /** Of teacher and texts: the same question has the same id, whoever asks it. */
  id: z.string().min(1),
  teacher: teacherNameSchema,
  /** Each text once. */
  texts: z.array(z.string()),
  /** Positions in `texts`: a query and a document by turns. */
  pairs: z.array(z.int().nonnegative()),
  /** Whether scores that are not finite may come back, to be counted and left out. */
  skip: z.literal(true).optional(),
});
export type ScoreJob = z.output<typeof scoreJobSchema>;

/** Scores of a job's pairs, in order. What it throws is an attempt that failed; `Unfit`, that this worker is not the one. */
export type Answer = (job: ScoreJob) => Promise<Float32Array>;

/** How often a job is tried whose worker says that it cannot be done. */
export const ATTEMPTS = 3;
/** How many workers may fall silent over a job before it is given up. */
export const DEATHS = 5;

/**
 * A queue of jobs, those of each teacher apart: several teachers share a server, and a worker of one never sees the pairs of
 * another. Each job is worked on until one answer has come back: a worker that dies or falls silent loses its job to another.
 * An answer stays until it is forgotten, so that who asked may be killed and ask again.
 */
export interface ScoreQueue {
  /** For messages, without passwords. */
  readonly name: string;
  /**
   * Puts a job, unless one of its id is there already, and waits for its scores.
   * @throws FaultError where it failed as often as it is tried; a failed job that is asked for again is tried again
   */
  ask(job: ScoreJob, signal?: AbortSignal): Promise<Float32Array>;
  /** Lets go of a job whose scores are safe. */
  forget(job: Pick<ScoreJob, 'teacher' | 'id'>): Promise<void>;
  /** The teachers whose jobs wait or are worked on. */
  teachers(): Promise<TeacherName[]>;
  /** Processes that take jobs of a teacher now; undefined while that cannot be known. */
  workers(key: string): Promise<number | undefined>;
  /**
   * Takes one job of a teacher after the other until the signal aborts; the job in hand is finished first.
   * @throws Unfit as soon as an answer does; its job goes back as it was
   */
  work(key: string, answer: Answer, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** @param skip whether scores that are not finite may come back */
export function jobOf(
  teacher: TeacherName,
  pairs: readonly Pick<Pair, 'query' | 'document'>[],
  skip = false,
): ScoreJob {
  const at = new Map<string, number>();
  const position = (text: string): number => {
    const known = at.get(text) ?? at.size;
    at.set(text, known);
    return known;
  };
  const positions = pairs.flatMap((p) => [position(p.query), position(p.document)]);
  const texts = [...at.keys()];
  const id = `r${hashAll([teacher.key, skip ? 'skip' : '', positions.join(), ...texts])}`;
  return { id, teacher, texts, pairs: positions, ...(skip && { skip }) };
}

/**
 * A worker's scores, checked before they are an answer: a queue keeps answers, and a wrong one would fail every run that asks.
 * @throws Error that says what is wrong, with the pair
 */
export function checkedScores(job: Pick<ScoreJob, 'texts' | 'pairs' | 'skip'>, scores: Float32Array): Float32Array {
  const n = job.pairs.length / 2;
  if (scores.length !== n) throw new Error(`the teacher gave ${scores.length} scores for ${n} pairs`);
  const at = job.skip ? -1 : firstNotFinite(scores);
  if (at >= 0) {
    const cut = (text = ''): string => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
    const [query, document] = [job.texts[job.pairs[2 * at]], job.texts[job.pairs[2 * at + 1]]];
    throw new Error(`the teacher's score of ${cut(query)} with ${cut(document)} is ${scores[at]}`);
  }
  return scores;
}

/** The pairs of a job; ids are positions, for messages. */
export function pairsOfJob({ texts, pairs }: Pick<ScoreJob, 'texts' | 'pairs'>): Pair[] {
  return Array.from({ length: pairs.length / 2 }, (_, i) => {
    const [q, d] = [pairs[2 * i], pairs[2 * i + 1]];
    return { queryId: String(q), documentId: String(d), query: texts[q], document: texts[d] };
  });
}
