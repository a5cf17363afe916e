/** @file A queue's workers at a run's service: whoever asks names the model that they open, and works itself where nobody else can. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { InputError } from '../../common/errors.ts';
import type { Config } from '../../config/config.ts';
import type { ScoreCache } from '../cache/score-cache.ts';
import type { DistributeOptions } from '../queue/distribute.ts';
import { isInProcess, openQueue } from '../queue/index.ts';
import { answerWith, type TeacherName } from '../queue/queue.ts';
import type { Teacher } from '../teacher.ts';

/** A teacher or embedder that workers can open. */
export type QueuedModel = Omit<TeacherName, 'key'>;

/** @throws InputError where it is not a model, but a service or a file */
export function queuedModel(spec: Config['teacher'] | Config['embedder'], name: 'teacher' | 'embedder'): QueuedModel {
  if (spec && spec.kind !== 'scores' && spec.kind !== 'http' && spec.kind !== 'vectors')
    return { ...spec, kind: spec.kind ?? 'dual-encoder' };
  throw new InputError({
    code: 'queue.no-model',
    subject: `'${name}' is not a model that workers could open`,
    remedy:
      name === 'teacher'
        ? "use 'teacher.kind: cross-encoder' or dual-encoder, or score without --queue"
        : "name an 'embedder.model', or embed without --queue",
  });
}

/**
 * Opens the queue, has something asked through it and closes it.
 * @param model the same model opened here: its key names it, and it works itself where no other process can reach the queue
 */
export async function throughQueue<T>(
  address: string,
  spec: QueuedModel,
  { model, cache, onNote }: { model: Teacher; cache: ScoreCache; onNote(note: string): void },
  ask: (options: DistributeOptions) => Promise<T>,
): Promise<T> {
  const queue = await openQueue(address, { onNote });
  const done = new AbortController();
  const own = isInProcess(address)
    ? queue.work(model.key, (job) => answerWith(model, job), done.signal)
    : Promise.resolve();
  try {
    const teacher = { ...spec, model: existsSync(spec.model) ? resolve(spec.model) : spec.model, key: model.key };
    const { name, kind, tokenizer } = model;
    return await ask({ queue, cache, teacher, as: { name, kind, tokenizer } });
  } finally {
    done.abort();
    await own;
    await queue.close();
  }
}
