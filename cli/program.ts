/** @file The command: its verbs and the form of its errors. */
import { existsSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { explainedSystem, FaultError, InputError, shown } from '../common/errors.ts';
import { screened } from './terminal/screened.ts';
import { Stopped, signalCode } from './terminal/stopped.ts';
import type { Context } from './terminal/verb.ts';
import { verbs } from './verbs/index.ts';

export type Terminal = Pick<Context, 'out' | 'err'>;

export function program(terminal: Terminal, signal: AbortSignal): Command {
  const { out, err } = terminal;
  const cli = new Command('distill')
    .description('Distil a slow ONNX cross-encoder into a compact dual-encoder.')
    .version('0.1.0')
    .option('--verbose', 'show the stack of an error')
    .configureOutput({ writeOut: (s) => out.write(s), writeErr: (s) => err.write(s) })
    .exitOverride();
  for (const verb of verbs) {
    const command = verb({ out, err, signal }).copyInheritedSettings(cli);
    for (const sub of command.commands) sub.copyInheritedSettings(command);
    cli.addCommand(command);
  }
  return cli;
}

/**
 * Runs the command. @returns its exit code: 0, 2 for a mistake in the input, 3 for a fault, 130 when interrupted, 143 when
 * terminated
 */
export async function main(argv: readonly string[], given: Terminal, signal: AbortSignal): Promise<number> {
  const terminal = { out: screened(given.out), err: screened(given.err) };
  try {
    await program(terminal, signal).parseAsync([...argv], { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (signal.aborted) {
      terminal.err.write('\nstopped; run the same command again to continue\n');
      return signal.reason instanceof Stopped ? signal.reason.exitCode : signalCode('SIGINT');
    }
    const verbose = argv.includes('--verbose');
    const told = explained(error);
    const known = told instanceof InputError;
    const { message, stack } = told instanceof Error ? told : { message: String(told), stack: undefined };
    terminal.err.write(
      `\nerror: ${shown(message)}\n${verbose && stack ? `${stack}\n` : known ? '' : 'this is a defect of onnx-distill; --verbose shows where\n'}`,
    );
    return known ? told.exitCode : 3;
  }
}

/** Errors that any code may throw for an input: system errors, and stack overflow from deep nesting. */
function explained(error: unknown): unknown {
  if (error instanceof RangeError && /call stack/i.test(error.message))
    return new InputError({
      code: 'input.nesting',
      subject: 'a file that was given is nested too deeply to be read',
      remedy: 'look for JSON of thousands of levels among the files named on the command line and in the config',
      cause: error,
    });
  // With too few file handles Node calls a module missing that is there.
  const { code, message } = (error ?? {}) as NodeJS.ErrnoException;
  const module = code === 'ERR_MODULE_NOT_FOUND' ? /'([^']+)' imported from/.exec(message)?.[1] : undefined;
  if (module && existsSync(module))
    return new FaultError({
      code: 'system.modules',
      subject: `cannot load ${module}, which is there: too many files are open`,
      remedy: 'raise the limit (ulimit -n) and run the same command again',
      cause: error,
    });
  return explainedSystem(error);
}
