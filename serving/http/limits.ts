/** @file Limits of a server: waiting requests, concurrent requests, and timeouts. */
import { HTTPException } from 'hono/http-exception';

/** Limits of a server. */
export interface Limits {
  /** Bytes of a request's body. */
  body: number;
  /** Texts or documents of a request. */
  texts: number;
  /** Milliseconds a request. */
  time: number;
  /** Requests that wait while others run; more are refused with 429. */
  queue: number;
  /** Requests that run at once. */
  concurrency: number;
}

export const defaultLimits: Limits = { body: 2_000_000, texts: 256, time: 30_000, queue: 64, concurrency: 2 };

/** An answer that is a mistake of the caller or a state of the server, in one sentence. */
export class Refusal extends HTTPException {
  constructor(
    status: 400 | 403 | 404 | 405 | 413 | 415 | 422 | 424 | 429 | 500 | 503,
    message: string,
    readonly kind: 'Validation' | 'Overloaded' | 'Backend' | 'Unhealthy' | 'Empty' = 'Validation',
  ) {
    super(status, { message });
  }
}

/** Runs some pieces of work at once, lets some wait, refuses the rest. */
export class WorkQueue {
  private readonly waiting: { go(): void }[] = [];
  private readonly limits: Pick<Limits, 'queue' | 'concurrency' | 'time'>;
  running = 0;

  constructor(limits: Pick<Limits, 'queue' | 'concurrency' | 'time'>) {
    this.limits = limits;
  }

  /** Pieces that wait. */
  get length(): number {
    return this.waiting.length;
  }

  /**
   * @param work given a signal that ends with the time
   * @throws Refusal where too many wait, or the time is over; work that does not heed the signal ends unheard and keeps its place
   */
  async run<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { time, queue, concurrency } = this.limits;
    if (this.running >= concurrency && this.waiting.length >= queue)
      throw new Refusal(429, 'the server is overloaded, try again later', 'Overloaded');
    const clock = new AbortController();
    const late = new Refusal(503, `the request took more than ${time / 1000} s and was cancelled`, 'Overloaded');
    let stop: (() => void) | undefined;
    const over = new Promise<never>((_, reject) => {
      stop = () => reject(late);
    });
    over.catch(() => {});
    const timer = setTimeout(() => {
      clock.abort(late);
      stop?.();
    }, time);
    try {
      const turn = this.turn();
      await Promise.race([turn.come, over]).catch((error) => {
        turn.drop();
        throw error;
      });
      const done = work(clock.signal).finally(() => this.next());
      done.catch(() => {});
      return await Promise.race([done, over]);
    } finally {
      clearTimeout(timer);
    }
  }

  private turn(): { come: Promise<void>; drop(): void } {
    if (this.running < this.limits.concurrency) {
      this.running++;
      return { come: Promise.resolve(), drop: () => this.next() };
    }
    const place = { go: () => {} };
    const come = new Promise<void>((go) => {
      place.go = go;
    });
    this.waiting.push(place);
    const drop = (): void => {
      const at = this.waiting.indexOf(place);
      // Its turn may have come in the same moment.
      if (at >= 0) this.waiting.splice(at, 1);
      else this.next();
    };
    return { come, drop };
  }

  /** The place of one that ended goes to the first that waits. */
  private next(): void {
    const first = this.waiting.shift();
    if (first) first.go();
    else this.running--;
  }
}
