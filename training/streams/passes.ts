/** @file The batches of a stream: pass after pass in the order of a replay method, with what a training state saves of it. */
import { type Tensor, vectorOf } from '../../engine/graph/tensor.ts';
import { rowOf } from '../../math/ragged.ts';
import { Random } from '../../math/random.ts';
import type { StreamMethod, StreamSettings } from './stream.ts';

export interface StreamOptions extends StreamSettings {
  method: StreamMethod;
  /** Most examples of a batch. */
  batch: number;
  seed: number;
}

/** Batches of one pass whose order is made at once: all of them, or those of one buffer. */
interface Window {
  /** Number of the first batch, over all passes. */
  first: number;
  /** Positions of examples in the order of learning. */
  order: Int32Array;
}

/**
 * Examples 0 .. n - 1 in the order of arrival, learned in the order of a replay method. A pass is divided into batches of
 * nearly equal size, so that none of its examples is left out. An order that depends on the losses is made when training
 * reaches it (`prepare`), and saved with the training state; any other follows from the seed and the number of the pass.
 */
export class Stream {
  /** Batches of a pass. */
  readonly batches: number;
  private readonly n: number;
  private readonly learned: number;
  private readonly options: StreamOptions;
  /** Batches of a window. */
  private readonly span: number;
  private windows: Window[] = [];

  /** Whether the order follows the losses of the current student: then `prepare` has to be called before a batch is taken. */
  get readsSurprise(): boolean {
    return this.options.method.readsSurprise;
  }

  /** @param n number of examples */
  constructor(n: number, options: StreamOptions) {
    const { method, batch, buffer } = options;
    this.n = n;
    this.options = options;
    this.learned = method.learned(n, options);
    this.batches = Math.max(1, Math.ceil(this.learned / batch));
    this.span = method.readsSurprise ? Math.min(this.batches, Math.max(1, Math.round(buffer / batch))) : this.batches;
  }

  /** The examples of a batch. @throws Error where its order depends on losses and is not prepared */
  batch(number: number): number[] {
    const first = this.firstOf(number);
    const known = this.windows.find((w) => w.first === first);
    if (!known && this.options.method.readsSurprise) throw new Error(`batch ${number} of the stream is not prepared`);
    const window = known ?? this.keep({ first, order: this.orderOf(first) });
    const from = this.bound(first % this.batches);
    const at = number % this.batches;
    return Array.from(window.order.subarray(this.bound(at) - from, this.bound(at + 1) - from));
  }

  /**
   * Makes the orders of batches that depend on losses, as far as they are not made.
   * @param surprise losses with the current weights of the examples from..to
   */
  async prepare(
    batches: readonly number[],
    surprise: (from: number, to: number) => Promise<ArrayLike<number>>,
  ): Promise<void> {
    if (!this.options.method.readsSurprise) return;
    const wanted = [...new Set(batches.map((b) => this.firstOf(b)))];
    const windows: Window[] = [];
    for (const first of wanted) {
      const known = this.windows.find((w) => w.first === first);
      const [from, to] = this.range(first);
      windows.push(known ?? { first, order: this.orderOf(first, await surprise(from, to)) });
    }
    this.windows = windows;
  }

  /** What is saved with a training state. */
  get(): Record<string, Tensor> {
    const offsets = [0];
    for (const { order } of this.windows) offsets.push((offsets.at(-1) as number) + order.length);
    const orders = this.windows.flatMap(({ order }) => [...order]);
    const all = { first: this.windows.map((w) => w.first), offsets, orders };
    return Object.fromEntries(
      Object.entries(all).map(([name, of]) => [`stream.${name}`, vectorOf(Int32Array.from(of))]),
    );
  }

  /** @throws Error where a part is missing */
  set(tensors: ReadonlyMap<string, Tensor>): void {
    const data = (name: string): Int32Array => {
      const tensor = tensors.get(`stream.${name}`);
      if (!tensor) throw new Error(`it lacks the stream's ${name}`);
      return Int32Array.from(tensor.data as ArrayLike<number>);
    };
    const [first, offsets, orders] = [data('first'), data('offsets'), data('orders')];
    this.windows = Array.from(first, (f, i) => ({ first: f, order: Int32Array.from(rowOf(orders, offsets, i)) }));
  }

  private keep(window: Window): Window {
    this.windows = [window];
    return window;
  }

  /** Number of the first batch of the window that a batch is in. */
  private firstOf(number: number): number {
    const within = number % this.batches;
    return number - within + this.span * Math.floor(within / this.span);
  }

  /** Where a batch of a pass begins among what the pass learns. */
  private bound(batch: number): number {
    return Math.floor((batch * this.learned) / this.batches);
  }

  /** The examples of a window. */
  private range(first: number): [from: number, to: number] {
    if (this.span === this.batches) return [0, this.n];
    const at = first % this.batches;
    return [this.bound(at), this.bound(Math.min(this.batches, at + this.span))];
  }

  private orderOf(first: number, surprise?: ArrayLike<number>): Int32Array {
    const { method, buffer, gap, surprising, seed } = this.options;
    const [from, to] = this.range(first);
    const at = first % this.batches;
    const sizes = Array.from(
      { length: Math.min(this.span, this.batches - at) },
      (_, k) => this.bound(at + k + 1) - this.bound(at + k),
    );
    const random = Random.of(seed, `stream ${first}`);
    const order = method.order({ length: to - from, batches: sizes, buffer, gap, surprising, random, surprise });
    return order.map((i) => from + i);
  }
}
