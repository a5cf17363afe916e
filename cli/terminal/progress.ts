/** @file The progress line: redrawn on a terminal, written periodically elsewhere. */
import { duration } from '../../common/duration.ts';
import { shown } from '../../common/errors.ts';
import type { OnProgress, Progress } from '../../common/progress.ts';

export interface Screen {
  write(text: string): void;
  isTTY?: boolean;
  columns?: number;
}

/** Milliseconds between plain lines without a terminal, and between redraws with one. */
const PLAIN_EVERY = 10_000;
const DRAW_EVERY = 100;

export function progressReporter(screen: Screen, now: () => number = Date.now): OnProgress & { end(): void } {
  let stage = '';
  let started = 0;
  let first = 0;
  let last = 0;
  let drawn = false;
  let finishedAt = -1;
  const clear = (): void => {
    if (drawn) screen.write('\r\x1b[K');
    drawn = false;
  };
  const report = (p: Progress): void => {
    const time = now();
    if (p.note !== undefined) {
      clear();
      screen.write(`${p.run === undefined ? '' : `${shown(p.run)}: `}${shown(p.note)}\n`);
      return;
    }
    const whole = nameOf(p);
    if (whole !== stage) [stage, started, first, last, finishedAt] = [whole, time, p.done, 0, -1];
    const finished = p.total !== undefined && p.done >= p.total;
    // A nested stage may report its end twice.
    if (finished && p.done === finishedAt) return;
    if (finished) finishedAt = p.done;
    if (time - last < (screen.isTTY ? DRAW_EVERY : PLAIN_EVERY) && !finished) return;
    last = time;
    const line = shown(progressLine(p, (time - started) / 1000, p.done - first));
    if (screen.isTTY) {
      screen.write(`\r\x1b[K${line.slice(0, (screen.columns ?? 80) - 1)}`);
      drawn = true;
      if (finished) {
        screen.write('\n');
        drawn = false;
      }
    } else screen.write(`${line}\n`);
  };
  return Object.assign(report, { end: clear });
}

/** A stage with the name of its nested run. */
const nameOf = ({ run, stage }: Progress): string => (run === undefined ? stage : `${run} ${stage}`);

/** E.g. `train  120/398 steps  30%  3.1 steps/s  1 min 30 s left  loss 0.412`. */
export function progressLine(p: Progress, elapsed: number, doneHere: number): string {
  const parts = [nameOf(p), p.total === undefined ? `${p.done} ${p.unit}` : `${p.done}/${p.total} ${p.unit}`];
  if (p.total) parts.push(`${Math.floor((100 * p.done) / p.total)}%`);
  if (elapsed > 0.5 && doneHere > 0) {
    const rate = doneHere / elapsed;
    parts.push(`${rate >= 100 ? rate.toFixed(0) : rate.toPrecision(2)} ${p.unit}/s`);
    if (p.total && p.done < p.total) parts.push(`${duration((p.total - p.done) / rate)} left`);
  }
  if (p.loss !== undefined) parts.push(`loss ${p.loss.toPrecision(4)}`);
  if (p.workers !== undefined) parts.push(`${p.workers} ${p.workers === 1 ? 'worker' : 'workers'}`);
  return parts.join('  ');
}
