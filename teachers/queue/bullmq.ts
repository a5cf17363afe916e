/** @file The queue on BullMQ: a Redis or Valkey server between any number of machines, and between any number of teachers. */
import type { Redis } from 'ioredis';
import { InputError } from '../../common/errors.ts';
import { hashAll } from '../../common/files.ts';
import { BullLane, KEEP, type Modules } from './bull-lane.ts';
import { type Answer, type Job, type JobQueue, type TeacherName, teacherNameSchema } from './queue.ts';

/** Begins the names of queues; what follows is of the teacher's key. */
const QUEUE = 'onnx-distill-scores';
/** The teachers that pairs were asked of: key to name and time. */
const TEACHERS = 'onnx-distill-teachers';
/** Milliseconds after which a teacher is announced again. */
const ANNOUNCE_EVERY = 60_000;
const CONNECT_WITHIN = 5000;

export interface BullQueueOptions {
  /** Milliseconds after which the job of a silent worker goes to another. */
  lease?: number;
  /** Is told of entries on the server that are damaged or of another version. */
  onNote?: (note: string) => void;
}

export class BullQueue implements JobQueue {
  readonly name: string;
  private readonly modules: Modules;
  private readonly client: Redis;
  private readonly lease: number;
  /** By the teacher's key. */
  private readonly lanes = new Map<string, BullLane>();
  /** When each teacher was announced. */
  private readonly announced = new Map<string, number>();
  /** Announcements that a note was given of. */
  private readonly noted = new Set<string>();
  private readonly onNote: (note: string) => void;

  private constructor(
    name: string,
    modules: Modules,
    client: Redis,
    { lease, onNote = () => {} }: BullQueueOptions & { lease: number },
  ) {
    this.name = name;
    this.modules = modules;
    this.client = client;
    this.lease = lease;
    this.onNote = onNote;
  }

  /** @throws InputError where the optional packages are not installed or no server answers */
  static async open(url: URL, { lease = 30_000, onNote }: BullQueueOptions = {}): Promise<BullQueue> {
    const modules = await load();
    const name = `${url.protocol}//${url.host}${url.pathname === '/' ? '' : url.pathname}`;
    let connected = false;
    const client = new modules.Redis(url.href.replace(/^valkey/, 'redis'), {
      lazyConnect: true,
      connectTimeout: CONNECT_WITHIN,
      // Once it has answered, a server that is away is waited for.
      maxRetriesPerRequest: null,
      retryStrategy: (times) => (connected ? Math.min(200 * times, 2000) : null),
    });
    let reason = '';
    client.on('error', (error) => {
      reason = error.message || (error as NodeJS.ErrnoException).code || reason;
    });
    try {
      await client.connect();
      connected = true;
    } catch (cause) {
      client.disconnect();
      throw new InputError({
        code: 'queue.unreachable',
        subject: `no queue server answers at ${name} (${reason || (cause as Error).message})`,
        remedy: 'start a Redis or Valkey server there, or name another with --queue redis://HOST:PORT',
        cause,
      });
    }
    return new BullQueue(name, modules, client, { lease, onNote });
  }

  ask(job: Job, signal?: AbortSignal): Promise<Float32Array> {
    return this.lane(job.teacher.key).ask(job, signal);
  }

  forget({ teacher, id }: Pick<Job, 'teacher' | 'id'>): Promise<void> {
    return this.lane(teacher.key).forget(id);
  }

  workers(key: string): Promise<number | undefined> {
    return this.lane(key).workers();
  }

  work(key: string, answer: Answer, signal: AbortSignal): Promise<void> {
    return this.lane(key).work(answer, signal);
  }

  async teachers(): Promise<TeacherName[]> {
    const found: TeacherName[] = [];
    for (const [key, text] of Object.entries(await this.client.hgetall(TEACHERS))) {
      const announced = announcement(text);
      // Left there: those of another version are for workers of that version.
      if (announced?.teacher.key !== key) this.tellOnce(key, text);
      else if (Date.now() - announced.at > 1000 * KEEP) await this.client.hdel(TEACHERS, key);
      else if (await this.lane(key).busy()) found.push(announced.teacher);
    }
    return found;
  }

  async close(): Promise<void> {
    for (const lane of this.lanes.values()) await lane.close();
    this.client.disconnect();
  }

  private tellOnce(key: string, text: string): void {
    const entry = hashAll([key, text]);
    if (this.noted.has(entry)) return;
    this.noted.add(entry);
    this.onNote(
      `a teacher that was announced at ${this.name} is not understood (key ${JSON.stringify(key.slice(0, 12))}): the entry is damaged or of another version of onnx-distill, and its jobs are left to other workers`,
    );
  }

  private lane(key: string): BullLane {
    const known = this.lanes.get(key);
    if (known) return known;
    const { modules, client, lease, onNote } = this;
    const name = `${QUEUE}-${hashAll([key]).slice(0, 32)}`;
    const lane = new BullLane({ name, modules, client, lease, onNote, announce: (job) => this.announce(job.teacher) });
    this.lanes.set(key, lane);
    return lane;
  }

  private async announce(teacher: TeacherName): Promise<void> {
    const now = Date.now();
    const known = now - (this.announced.get(teacher.key) ?? 0) < ANNOUNCE_EVERY;
    if (known && announcement((await this.client.hget(TEACHERS, teacher.key)) ?? '')) return;
    await this.client.hset(TEACHERS, teacher.key, JSON.stringify({ at: now, teacher }));
    this.announced.set(teacher.key, now);
  }
}

/** What stands at a teacher's key; nothing where another version or program wrote it. */
function announcement(text: string): { at: number; teacher: TeacherName } | undefined {
  try {
    const { at, teacher } = JSON.parse(text) as { at: unknown; teacher: unknown };
    return Number.isFinite(at) ? { at: at as number, teacher: teacherNameSchema.parse(teacher) } : undefined;
  } catch {
    return undefined;
  }
}

async function load(): Promise<Modules> {
  try {
    const { Queue, QueueEvents, Worker, WaitingError } = await import('bullmq');
    const { Redis } = await import('ioredis');
    return { Queue, QueueEvents, Worker, WaitingError, Redis };
  } catch (cause) {
    throw new InputError({
      code: 'queue.not-installed',
      subject: `a redis:// queue needs the optional packages bullmq and ioredis (${(cause as Error).message.split('\n')[0]})`,
      remedy: 'install them: npm install bullmq ioredis',
      cause,
    });
  }
}
