/** @file Watches served queries and warns when they no longer resemble those that the guarantee was certified on. */
import { type Drift, drift } from '../adaptive/drift.ts';

/** Served queries between two looks, and the latest that a look compares. */
const EVERY = 100;
const WINDOW = 1000;

/** How a served stream compares with the queries of calibration. */
export interface DriftReport extends Drift {
  /** Queries compared, and served in all. */
  queries: number;
  served: number;
  /** A warning that the guarantee no longer applies to this stream; absent if there is no evidence of drift. */
  warning?: string;
}

/**
 * Compares the needs of the latest queries with those of calibration, again and again. The chance of a false alarm over all looks
 * together is at most `level`: look i has 6 / (pi i)^2 of it.
 */
export class DriftWatch {
  private readonly needs: number[] = [];
  private served = 0;
  private looks = 0;
  private warned: string | undefined;
  private last: Drift | undefined;

  constructor(
    private readonly calibration: readonly number[],
    private readonly threshold: number,
    private readonly level = 0.01,
    private readonly onWarning?: (warning: string) => void,
  ) {}

  /** @param need the rule's need of a served query before the teacher was asked */
  see(need: number): void {
    this.needs.push(need);
    if (this.needs.length > WINDOW) this.needs.shift();
    if (++this.served % EVERY === 0) this.look();
  }

  /** How the stream compares now. */
  report(): DriftReport {
    const now = this.last ?? drift(this.calibration, this.needs, this.threshold, 0);
    return { ...now, queries: this.needs.length, served: this.served, warning: this.warned };
  }

  private look(): void {
    this.looks++;
    const level = (this.level * 6) / (Math.PI * this.looks) ** 2;
    this.last = drift(this.calibration, this.needs, this.threshold, level);
    if (!this.last.drifted || this.warned) return;
    const { deferred, expected, pValue } = this.last;
    const percent = (x: number): string => `${(100 * x).toFixed(1)} %`;
    this.warned = `the last ${this.needs.length} queries differ from those that the guarantee was certified on (p ${pValue.toExponential(1)}; ${percent(deferred)} deferred, ${percent(expected)} in calibration): it does not apply to them, calibrate again`;
    this.onWarning?.(this.warned);
  }
}
