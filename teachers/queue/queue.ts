/**
 * @file What carries pairs and texts to teachers on other machines and brings scores and vectors back: the one interface that
 * work through a queue is written against.
 */
import { z } from 'zod';
import { hashAll } from '../../common/files.ts';
import type { RunControl } from '../../common/progress.ts';
import { firstNotFinite } from '../../math/finite.ts';
import { type Pair, type Teacher, teacherDTypes } from '../teacher.ts';

const count = z.int().positive().optional();
const text = z.string().optional();

/** A teacher that another process can open: what its folder or hub name is, how texts are cut, and the key it must come out with. */
export const teacherNameSchema = z.strictObject({
  key: z.string().min(1),
  kind: z.enum(['cross-encoder', 'dual-encoder', 'generative']),
  model: z.string().min(1),
  dtype: z.enum(teacherDTypes).optional(),
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

const common = {
  /** Of teacher and texts: the same question has the same id, whoever asks it. */
  id: z.string().min(1),
  teacher: teacherNameSchema,
  /** Each text once. */
  texts: z.array(z.string()),
  /** Whether numbers that are not finite may come back, to be counted and left out. */
  skip: z.literal(true).optional(),
};
const scoreJobSchema = z.strictObject({
  ...common,
  /** Positions in `texts`: a query and a document by turns. */
  pairs: z.array(z.int().nonnegative()),
});
const embedJobSchema = z.strictObject({
  ...common,
  /** What the texts are: prompts and limits differ. */
  embed: z.enum(['query', 'document']),
});
/**
 * A range of pairs to score, or of texts to embed. Texts travel with it: a worker needs the model and nothing else, and cannot
 * read other data by mistake.
 */
const jobSchema = z.union([scoreJobSchema, embedJobSchema]);
export type ScoreJob = z.output<typeof scoreJobSchema>;
export type EmbedJob = z.output<typeof embedJobSchema>;
export type Job = z.output<typeof jobSchema>;

export const isEmbedding = (job: Job): job is EmbedJob => 'embed' in job;

/**
 * Scores of a job's pairs in order, or the vectors of its texts, [n, dimensions] row-major. What it throws is an attempt that
 * failed; `Unfit`, that this worker is not the one.
 */
export type Answer = (job: Job) => Promise<Float32Array>;

/** How often a job is tried whose worker says that it cannot be done. */
export const ATTEMPTS = 3;
/** How many workers may fall silent over a job before it is given up. */
export const DEATHS = 5;

/**
 * A queue of jobs, those of each teacher apart: several teachers share a server, and a worker of one never sees the pairs of
 * another. Each job is worked on until one answer has come back: a worker that dies or falls silent loses its job to another.
 * An answer stays until it is forgotten, so that who asked may be killed and ask again.
 */
export interface JobQueue {
  /** For messages, without passwords. */
  readonly name: string;
  /**
   * Puts a job, unless one of its id is there already, and waits for its answer.
   * @throws FaultError where it failed as often as it is tried; a failed job that is asked for again is tried again
   */
  ask(job: Job, signal?: AbortSignal): Promise<Float32Array>;
  /** Lets go of a job whose answer is safe. */
  forget(job: Pick<Job, 'teacher' | 'id'>): Promise<void>;
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
  return withId({ teacher, texts, pairs: positions, ...(skip && { skip }) });
}

/** @param texts each once @param skip whether vectors that are not finite may come back */
export function embedJobOf(
  teacher: TeacherName,
  texts: readonly string[],
  embed: EmbedJob['embed'],
  skip = false,
): EmbedJob {
  return withId({ teacher, texts: [...texts], embed, ...(skip && { skip }) });
}

type Asked = Omit<ScoreJob, 'id'> | Omit<EmbedJob, 'id'>;

/** The hash of what a job asks. */
function idOf(job: Asked): string {
  const { teacher, texts, skip } = job;
  const [kind, of] = 'embed' in job ? ['e', job.embed] : ['r', job.pairs.join()];
  return `${kind}${hashAll([teacher.key, skip ? 'skip' : '', of, ...texts])}`;
}
const withId = <J extends Asked>(job: J): J & { id: string } => ({ id: idOf(job), ...job });

/**
 * A job as a worker takes it from a server.
 * @throws Error in one sentence where it is damaged, or of another version of this program
 */
export function checkedJob(data: unknown): Job {
  const refuse = (why: string): never => {
    throw new Error(`the job is damaged, or of another version of onnx-distill than this worker (${why})`);
  };
  const parsed = jobSchema.safeParse(data);
  if (!parsed.success) {
    const [{ path, message }] = parsed.error.issues;
    return refuse([...path, message].join(': '));
  }
  const job = parsed.data;
  if (job.id !== idOf(job)) refuse('its id is not the hash of what it asks');
  if (!isEmbedding(job) && job.pairs.some((at) => at >= job.texts.length))
    refuse('a pair names a text that is not there');
  return job;
}

/** An answer as text, with a checksum that says which job it is of. */
export function answerText({ id }: Pick<Job, 'id'>, { buffer, byteOffset, byteLength }: Float32Array): string {
  const text = Buffer.from(buffer, byteOffset, byteLength).toString('base64');
  return `${text} ${sumOf(id, text)}`;
}

/** @throws Error where it is not one that `answerText` made for the job */
export function answerOf(job: Job, text: unknown): Float32Array {
  const [numbers, sum] = typeof text === 'string' ? text.split(' ') : [];
  if (numbers === undefined || sum !== sumOf(job.id, numbers))
    throw new Error('the answer is damaged, or of a worker with another version of onnx-distill');
  return checkedAnswer(job, new Float32Array(Uint8Array.from(Buffer.from(numbers, 'base64')).buffer));
}

const sumOf = (id: string, text: string): string => hashAll([id, text]).slice(0, 16);

const cut = (text = ''): string => JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);

/**
 * A worker's answer, checked before it is kept: a wrong one would fail every run that asks.
 * @throws Error that says what is wrong, with the pair or the text
 */
export const checkedAnswer = (job: Job, numbers: Float32Array): Float32Array =>
  isEmbedding(job) ? checkedVectors(job, numbers) : checkedScores(job, numbers);

function checkedVectors({ texts, skip }: EmbedJob, vectors: Float32Array): Float32Array {
  if (!vectors.length || vectors.length % texts.length)
    throw new Error(`the teacher gave ${vectors.length} numbers as vectors of ${texts.length} texts`);
  const at = skip ? -1 : firstNotFinite(vectors);
  if (at < 0) return vectors;
  const dimensions = vectors.length / texts.length;
  const [row, column] = [Math.floor(at / dimensions), at % dimensions];
  throw new Error(`the teacher's vector of ${cut(texts[row])} is ${vectors[at]} in dimension ${column}`);
}

function checkedScores(job: ScoreJob, scores: Float32Array): Float32Array {
  const n = job.pairs.length / 2;
  if (scores.length !== n) throw new Error(`the teacher gave ${scores.length} scores for ${n} pairs`);
  const at = job.skip ? -1 : firstNotFinite(scores);
  if (at >= 0) {
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

/**
 * A teacher's answer to a job.
 * @throws Error where texts are to be embedded by a teacher that only scores
 */
export async function answerWith(teacher: Teacher, job: Job, watch: RunControl = {}): Promise<Float32Array> {
  if (!isEmbedding(job)) return teacher.score(pairsOfJob(job), watch);
  if (!teacher.embed) throw new Error(`${teacher.name} scores pairs and embeds no texts`);
  return (await teacher.embed(job.texts, job.embed, watch)).data;
}
