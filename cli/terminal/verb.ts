/** @file The type of the command's verbs: a function that makes a parser whose action does the work. */
import type { Command } from 'commander';
import type { RunControl } from '../../common/progress.ts';
import { progressReporter, type Screen } from './progress.ts';

export interface Context {
  /** Results go here. */
  out: Screen;
  /** Progress, notes and errors go here. */
  err: Screen;
  signal: AbortSignal;
}

/** Heavy modules are loaded by the action, not by the file, so that help and errors stay fast. */
export type Verb = (context: Context) => Command;

/**
 * Does long work with its progress on the screen, then prints the report: as JSON or as a person reads it.
 * @param work may print a text between two lines of its progress
 */
export async function reported<T>(
  { out, err, signal }: Context,
  json: boolean | undefined,
  work: (watch: RunControl, print: (text: string) => void) => Promise<T>,
  render: (report: T) => string,
): Promise<void> {
  const onProgress = progressReporter(err);
  const print = (text: string): void => {
    onProgress.end();
    err.write(text);
  };
  const report = await work({ onProgress, signal }, print);
  onProgress.end();
  out.write(json ? `${JSON.stringify(report)}\n` : render(report));
}

/** Parser of an option that can be repeated. */
export const collect = (value: string, all: string[]): string[] => [...all, value];
