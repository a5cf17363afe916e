/** @file What a verb of the command is: a function that makes its parser and does its work when asked. */
import type { Command } from 'commander';
import type { Screen } from './progress.ts';

export interface Context {
  /** Results go here. */
  out: Screen;
  /** Progress, notes and errors go here. */
  err: Screen;
  signal: AbortSignal;
}

/** Heavy modules are loaded by the action, not by the file: help and errors stay quick. */
export type Verb = (context: Context) => Command;

/** An option's parser where the option may be given again. */
export const collect = (value: string, all: string[]): string[] => [...all, value];
