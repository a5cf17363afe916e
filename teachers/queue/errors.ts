/** @file The failures of work through a queue, one sentence each. */
import { FaultError, InputError } from '../../common/errors.ts';
import type { Job } from './queue.ts';

/** This worker is not the one for a job: another model, or none. The job goes back to the queue as it was. */
export class Unfit extends InputError {}

/** A job that was tried as often as jobs are. @param why what its last worker said */
export const jobFailed = (job: Job, why: string): FaultError => {
  const said = (at: number): string => JSON.stringify(cut(job.texts[at]));
  return new FaultError({
    code: 'queue.job-failed',
    subject:
      'embed' in job
        ? `${job.texts.length} texts could not be embedded (${why}), the first being ${said(0)}`
        : `${job.pairs.length / 2} pairs could not be scored (${why}), the first being ${said(job.pairs[0])} with ${said(job.pairs[1])}`,
    remedy: 'fix the workers or remove the texts and run the same command again, what was done is kept',
  });
};

const cut = (text = ''): string => (text.length > 60 ? `${text.slice(0, 60)}…` : text);
