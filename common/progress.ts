/** @file Progress events of long work, drawn by whoever listens. */

/** An event of long work: the stage, how much of it is done, and what the unit is. */
export interface Progress {
  /** What is being done, e.g. `score`, `train`, `evaluate`. */
  stage: string;
  /** Name of the nested run that reports it. */
  run?: string;
  /** Units done and their total (pairs, steps, texts); `total` is absent where it is not known. */
  done: number;
  total?: number;
  /** What a unit is, plural: `pairs`, `steps`, `texts`. */
  unit: string;
  /** The current training loss, where there is one. */
  loss?: number;
  /** Number of processes that share the work, where there can be several. */
  workers?: number;
  /** A message to keep (a choice made, a warning); printed on a separate line. */
  note?: string;
}

/** Called as work goes on, at most a few times a second. */
export type OnProgress = (progress: Progress) => void;

/** Options that every long-running function takes. */
export interface RunControl {
  onProgress?: OnProgress;
  /** Memory limit of one batch in bytes: larger batches are split. */
  memory?: number;
  /** Aborting ends the work at the next safe point with the signal's reason. */
  signal?: AbortSignal;
}

/** What a part of a run may do in addition to computing: report, and time its parts. */
export interface Reporting {
  readonly watch: RunControl;
  /** Reports something worth keeping. */
  note(text: string): void;
  /** Reports that something is probably wrong, with figures; the report has it too. The same code again replaces it. */
  warn(code: string, text: string): void;
  /** Does a piece of work and adds its time up under a name. */
  time<T>(name: string, work: () => T | Promise<T>): Promise<T>;
}
