/** @file The failures of scoring through a queue, one sentence each. */
import { FaultError, InputError } from '../../common/errors.ts';
import type { ScoreJob } from './queue.ts';

/** This worker is not the one for a job: another model, or none. The job goes back to the queue as it was. */
export class Unfit extends InputError {}

/** A job that was tried as often as jobs are. @param why what its last worker said */
export const jobFailed = (job: ScoreJob, why: string): FaultError =>
  new FaultError({
    code: 'queue.job-failed',
    subject: `${job.pairs.length / 2} pairs could not be scored (${why}), the first being ${JSON.stringify(cut(job.texts[job.pairs[0]]))} with ${JSON.stringify(cut(job.texts[job.pairs[1]]))}`,
    remedy: 'fix the workers or remove the texts and run the same command again, what was scored is in the cache',
  });

const cut = (text = ''): string => (text.length > 60 ? `${text.slice(0, 60)}…` : text);
