/** @file Every queue by the scheme of its address. Another engine is a file in this folder and a line here. */
import { InputError } from '../../common/errors.ts';
import { InProcessQueue } from './in-process.ts';
import type { JobQueue } from './queue.ts';

export interface QueueOptions {
  /** Milliseconds after which the job of a silent worker goes to another. */
  lease?: number;
  /** Is told of entries on the server that are damaged or of another version. */
  onNote?: (note: string) => void;
}

type Open = (url: URL, options: QueueOptions) => Promise<JobQueue>;

/** Loaded when it is asked for: its packages are optional. */
const bullmq: Open = async (url, options) => (await import('./bullmq.ts')).BullQueue.open(url, options);

const engines: Readonly<Record<string, Open>> = {
  'in-process:': async () => new InProcessQueue(),
  'redis:': bullmq,
  'rediss:': bullmq,
  'valkey:': bullmq,
};

/** Whether nobody else can reach a queue, so that whoever asks has to work too. */
export const isInProcess = (address: string): boolean => address.startsWith('in-process:');

/** @param address e.g. `redis://host:6379` @throws InputError for an address of no known scheme, or if no server answers */
export async function openQueue(address: string, options: QueueOptions = {}): Promise<JobQueue> {
  const url = URL.canParse(address) ? new URL(address) : undefined;
  const open = url && Object.hasOwn(engines, url.protocol) ? engines[url.protocol] : undefined;
  if (!url || !open)
    throw new InputError({
      code: 'queue.address',
      subject: `the queue '${address.replace(/\/\/[^@/]*@/, '//')}'`,
      expected: `an address that begins with one of ${Object.keys(engines).join(' ')}`,
      remedy: 'for example redis://127.0.0.1:6379',
    });
  return open(url, options);
}
