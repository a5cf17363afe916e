/** @file What a search for an index's settings found, as the index keeps it. */
import type { IndexSettings } from './vector-index.ts';

/** What some queries gave. */
export interface Point {
  readonly settings: IndexSettings;
  /** Mean share of the exact k nearest that are found, and its standard error over queries. */
  readonly recall: number;
  readonly error: number;
  /** Median and 95 of 100, one query at a time. */
  readonly ms: number;
  readonly p95: number;
  readonly queries: number;
}

/** What settings must meet: a share of the exact nearest that is found, or a median of milliseconds a query. */
export type TuningGoal = { readonly recall: number } | { readonly ms: number };

/** What a search for settings found. */
export interface Tuned {
  readonly goal: TuningGoal;
  readonly k: number;
  /** Documents that it was found on. */
  readonly documents: number;
  readonly settings: IndexSettings;
  /** On the queries that it was found with, and on others. */
  readonly tuning: Point;
  readonly heldOut: Point;
  /** The default settings on the queries held out. */
  readonly defaults: Point;
  /** Exact search of float32 vectors by ONNX Runtime, one query at a time on all threads. */
  readonly exactMs: number;
  /** The chosen way along its ladder, on the queries held out: from fast and rough to slow and exact. */
  readonly curve: readonly Point[];
  /** The best of each way when it was given up, or at the end. */
  readonly tried: readonly { readonly name: string; readonly point: Point }[];
}
