/**
 * @file Threads that scan codes together with the calling one: blocks are claimed from a shared counter, the caller returns when
 * all are scored. Scores are those of one thread, since each row is scored by the same kernel wherever it runs.
 */
import { availableParallelism } from 'node:os';
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads';

/** Codes in a memory that threads share, with the module of the kernels. */
export interface SharedCodes {
  readonly memory: { readonly buffer: SharedArrayBuffer };
  readonly module: object;
}

/** One scan: rows from..to of `bytes` each, whose codes begin at `base`; `extra` is the kernel's last argument. */
export interface ScanJob {
  readonly kernel: string;
  readonly base: number;
  readonly bytes: number;
  readonly from: number;
  readonly to: number;
  readonly extra: number;
}

/**
 * Where threads pay: one core scans 8 MB in about half a millisecond, and below that what waking threads costs is not won back
 * (`npm run bench -- threads`, figures in docs/performance.md).
 */
export const scanThreads = { fromBytes: 8 << 20, most: Math.min(8, availableParallelism()) };

/** Milliseconds that the caller waits for a thread that took a block; then it does the work itself, and threads are no longer used. */
const PATIENCE = 20_000;

// Places in the shared control words: the number of the job, whether it is open, threads in it, the next block, the memory's id.
const [SEQ, OPEN, ACTIVE, NEXT, MEMORY, KERNEL] = [0, 1, 2, 3, 4, 5];
/** Numbers that a word is too short for: base, bytes, from, to, extra. */
const NUMBERS = 64;
const CONTROL = NUMBERS + 5 * 8;

/** What a thread runs: plain JavaScript, so that it starts from source and from a built package alike. */
const CODE = `
const { workerData, receiveMessageOnPort } = require('node:worker_threads');
const { control, port, kernels, rows, region } = workerData;
const c = new Int32Array(control, 0, 8);
const numbers = new Float64Array(control, ${NUMBERS}, 5);
const known = new Map();
let scores;
function take() {
  for (let found; (found = receiveMessageOnPort(port)); ) {
    const { id, memory, module, drop, buffer } = found.message;
    if (buffer) scores = new Float32Array(buffer);
    else if (drop) known.delete(id);
    else known.set(id, { memory, exports: new WebAssembly.Instance(module, { env: { memory } }).exports });
  }
}
for (let seen = 0; ; ) {
  Atomics.wait(c, ${SEQ}, seen);
  seen = Atomics.load(c, ${SEQ});
  Atomics.add(c, ${ACTIVE}, 1);
  if (Atomics.load(c, ${OPEN})) {
    take();
    const own = known.get(c[${MEMORY}]);
    const [base, bytes, from, to, extra] = numbers;
    const kernel = own && own.exports[kernels[c[${KERNEL}]]];
    if (kernel && scores && scores.length >= to - from)
      for (;;) {
        const at = from + rows * Atomics.add(c, ${NEXT}, 1);
        if (at >= to) break;
        const end = Math.min(to, at + rows);
        kernel(base + at * bytes, base + end * bytes, bytes, region, extra);
        scores.set(new Float32Array(own.memory.buffer, region, end - at), at - from);
      }
  }
  if (Atomics.sub(c, ${ACTIVE}, 1) === 1) Atomics.notify(c, ${ACTIVE});
}
`;

/** The threads of this process; started with the first scan that they are for. */
export class ScanPool {
  private readonly control = new SharedArrayBuffer(CONTROL);
  private readonly words = new Int32Array(this.control, 0, 8);
  private readonly numbers = new Float64Array(this.control, NUMBERS, 5);
  private readonly ports: MessagePort[] = [];
  private readonly ids = new WeakMap<object, number>();
  private readonly dropped = new FinalizationRegistry<number>((id) => this.tell({ id, drop: true }));
  private readonly kernels: readonly string[];
  private readonly rows: number;
  private scores: Float32Array = new Float32Array(0);
  private broken = false;
  private made = 0;

  /** @param regions where each thread but the caller leaves the scores of a block, `rows` of them */
  constructor({ kernels, rows, regions }: { kernels: readonly string[]; rows: number; regions: readonly number[] }) {
    this.kernels = kernels;
    this.rows = rows;
    for (const region of regions) {
      const { port1, port2 } = new MessageChannel();
      const workerData = { control: this.control, port: port2, kernels, rows, region };
      const worker = new Worker(CODE, { eval: true, workerData, transferList: [port2], execArgv: [] });
      worker.on('error', () => {
        this.broken = true;
      });
      worker.unref();
      port1.unref();
      this.ports.push(port1);
    }
  }

  /**
   * Scores rows into `out`, together with the threads. @param own scores a block on the calling thread
   * @returns false where threads cannot be relied on: then nothing is scored
   */
  scan(
    codes: SharedCodes,
    job: ScanJob,
    out: Float32Array,
    own: (from: number, to: number, into: Float32Array) => void,
  ): boolean {
    if (this.broken) return false;
    const { words, rows } = this;
    const { base, bytes, from, to, extra } = job;
    this.room(to - from);
    words[MEMORY] = this.idOf(codes);
    words[KERNEL] = this.kernels.indexOf(job.kernel);
    this.numbers.set([base, bytes, from, to, extra]);
    Atomics.store(words, NEXT, 0);
    // What a thread reads is set before it is open, and stays until the last thread has left.
    Atomics.store(words, OPEN, 1);
    Atomics.add(words, SEQ, 1);
    Atomics.notify(words, SEQ);
    for (;;) {
      const at = from + rows * Atomics.add(words, NEXT, 1);
      if (at >= to) break;
      const end = Math.min(to, at + rows);
      own(at, end, this.scores.subarray(at - from, end - from));
    }
    Atomics.store(words, OPEN, 0);
    const started = performance.now();
    for (let active = Atomics.load(words, ACTIVE); active; active = Atomics.load(words, ACTIVE)) {
      Atomics.wait(words, ACTIVE, active, 100);
      if (performance.now() - started < PATIENCE) continue;
      this.broken = true;
      return false;
    }
    out.set(this.scores.subarray(0, to - from));
    return true;
  }

  /** Scores of so many rows, where all threads write them. */
  private room(rows: number): void {
    if (this.scores.length >= rows) return;
    const buffer = new SharedArrayBuffer(4 * Math.ceil(rows * 1.25));
    this.scores = new Float32Array(buffer);
    this.tell({ buffer });
  }

  private idOf(codes: SharedCodes): number {
    let id = this.ids.get(codes);
    if (id === undefined) {
      id = ++this.made;
      this.ids.set(codes, id);
      this.dropped.register(codes, id);
      this.tell({ id, memory: codes.memory, module: codes.module });
    }
    return id;
  }

  private tell(message: object): void {
    for (const port of this.ports) port.postMessage(message);
  }
}
