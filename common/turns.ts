/** @file Alternates two asynchronous functions: one runs while the other waits. */

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

  /** Runs `work` once no other runs. @throws the signal's reason if it aborts the wait */
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

  /** Lets the other run until it passes the turn back or ends. @throws Error where no other waits */
  async passOn(): Promise<void> {
    const back = new Promise<void>((go) => this.waiting.push(go));
    const other = this.waiting.length > 1 ? this.waiting.shift() : undefined;
    if (!other) throw new Error('no other work waits for its turn');
    this.taken = false;
    other();
    await back;
    this.taken = true;
    this.signal.throwIfAborted();
  }
}
