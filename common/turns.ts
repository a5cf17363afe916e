/** @file Two pieces of work that take turns: one runs, the other waits. */

export class Turns {
  private taken = false;
  private readonly waiting: (() => void)[] = [];
  private readonly signal: AbortSignal;

  constructor(signal: AbortSignal) {
    this.signal = signal;
    signal.addEventListener('abort', () => {
      for (const go of this.waiting.splice(0)) go();
    });
  }

  /** Does the work when no other is at it. @throws the signal's reason where the wait is given up */
  async take<T>(work: () => Promise<T>): Promise<T> {
    if (this.taken) await new Promise<void>((go) => this.waiting.push(go));
    this.taken = true;
    try {
      this.signal.throwIfAborted();
      return await work();
    } finally {
      this.taken = false;
      this.waiting.shift()?.();
    }
  }

  /** Lets the other work until it passes on or is done. @throws Error where no other waits */
  async passOn(): Promise<void> {
    const back = new Promise<void>((go) => this.waiting.push(go));
    const other = this.waiting.length > 1 ? this.waiting.shift() : undefined;
    if (!other) throw new Error('there is no one to wait for');
    this.taken = false;
    other();
    await back;
    this.taken = true;
    this.signal.throwIfAborted();
  }
}
