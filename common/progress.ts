/** @file How long work tells what it is doing: plain events, drawn by whoever listens. */

/** An event of long work: the stage, how much of it is done, and what the unit is. */
export interface Progress {
  /** What is being done, e.g. `score`, `train`, `evaluate`. */
  stage: string;
  /** The run inside the run that tells it, by its name. */
  run?: string;
  /** Units done and in all (pairs, steps, texts); `total` is absent where it is not known. */
  done: number;
  total?: number;
  /** What a unit is, plural: `pairs`, `steps`, `texts`. */
  unit: string;
  /** The current training loss, where there is one. */
  loss?: number;
  /** Processes that share the work, where there may be several. */
  workers?: number;
  /** A sentence worth keeping (a choice made, a warning); printed on a line of its own. */
  note?: string;
}

/** Called as work goes on, at most a few times a second. */
export type OnProgress = (progress: Progress) => void;

/** What every long function takes. */
export interface RunControl {
  onProgress?: OnProgress;
  /** Bytes that one batch of the work may take: batches are made smaller where they would take more. */
  memory?: number;
  /** Aborting ends the work at the next safe point with the signal's reason. */
  signal?: AbortSignal;
}

/** What a part of a run may do besides computing: report, and time its parts. */
export interface Reporting {
  readonly watch: RunControl;
  /** Reports something worth keeping. */
  note(text: string): void;
  /** Reports that something is probably wrong, with figures; the report has it too. The same code again replaces it. */
  warn(code: string, text: string): void;
  /** Does a piece of work and adds its time up under a name. */
  time<T>(name: string, work: () => T | Promise<T>): Promise<T>;
}
