/** @file The type of the command's verbs: a function that makes a parser whose action does the work. */
import type { Command } from 'commander';
import type { Screen } from './progress.ts';

export interface Context {
  /** Results go here. */
  out: Screen;
  /** Progress, notes and errors go here. */
  err: Screen;
  signal: AbortSignal;
}

/** Heavy modules are loaded by the action, not by the file, so that help and errors stay fast. */
export type Verb = (context: Context) => Command;

/** Parser of an option that can be repeated. */
export const collect = (value: string, all: string[]): string[] => [...all, value];
