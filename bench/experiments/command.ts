/** @file Runs the built command as a separate process. */
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';

/** Runs `distill` with arguments; keeps the end of its output. */
export async function command(args: readonly string[]): Promise<{ code: number | null; out: string; err: string }> {
  const cli = join(dirname(import.meta.filename), '../../cli/main.js');
  const child = spawn(process.execPath, [cli, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let [out, err] = ['', ''];
  child.stdout.on('data', (d) => (out += d));
  child.stderr.on('data', (d) => (err = (err + d).slice(-3000)));
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code, out, err };
}

/** The last lines of the output of a failed command. */
export const lastWords = (err: string): string => err.trim().split('\n').slice(-3).join(' | ');
