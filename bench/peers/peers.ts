/** @file Runs a benchmark and its peers alternately, each in a new process; prints medians over several rounds and the ratios. */
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { FaultError } from '../../common/errors.ts';

/** The last line of a run's output. */
export type Measured = Readonly<Record<string, number | string>>;

export interface Contender {
  name: string;
  command: string;
  args: readonly string[];
}

/** Python with torch, transformers and sentence-transformers. */
export const PYTHON = process.env.PYTHON ?? 'python3';
export const SHARED = process.env.SHARED ?? '../shared';

/** The toolkit's contender: the same file, started so that it measures and prints. */
export const ours = (file: string, ...args: (string | number)[]): Contender => ({
  name: 'onnx-distill',
  command: process.execPath,
  args: [file, 'ours', ...args.map(String)],
});

/** Where both sides compute: the CPU by default. */
export const PROVIDER = (process.env.PROVIDER ?? 'cpu') as 'cpu' | 'cuda' | 'webgpu';

/** The toolkit's contenders: on a card in fp16, as the peer, and in float32. */
export const inDTypes = (file: string, ...args: (string | number)[]): Contender[] =>
  (PROVIDER === 'cuda' ? ['fp16', 'fp32'] : ['fp32']).map((dtype) => ({
    ...ours(file, ...args, dtype),
    name: PROVIDER === 'cuda' ? `onnx-distill ${dtype}` : 'onnx-distill',
  }));

/** Why Python's side cannot run; undefined where it can. */
export const absent = (modules = 'torch'): string | undefined => {
  const tried = spawnSync(PYTHON, ['-c', `import ${modules}`]);
  if (tried.status === 0) return undefined;
  const why = tried.error?.message ?? String(tried.stderr).trim().split('\n').at(-1);
  return `${PYTHON}: ${why}; set PYTHON to a Python with torch, onnx, transformers, sentence-transformers and datasets`;
};

/** A script in the source folder of this file. */
export const python = (name: string, script: string, ...args: (string | number)[]): Contender => ({
  name,
  command: PYTHON,
  args: [
    script.includes('/') ? script : join(import.meta.dirname, '../../../bench/peers', script),
    ...args.map(String),
  ],
});

/**
 * Runs every contender once per round, prints each line, then the medians and the toolkit's divided by each peer's. Where there
 * is no Python with PyTorch, its side is skipped with a message.
 *
 * @param figures names of the numbers to compare; lower is better
 * @param rounds runs of each; $ROUNDS or 3
 */
export async function compare(
  all: readonly Contender[],
  figures: readonly string[],
  rounds = Number(process.env.ROUNDS ?? 3),
): Promise<void> {
  const without = all.some((c) => c.command === PYTHON) ? absent() : undefined;
  const contenders = all.filter((c) => without === undefined || c.command !== PYTHON);
  if (without) console.error(`skipped: ${all.filter((c) => c.command === PYTHON).map((c) => c.name)} (${without})`);
  const seen = new Map<string, Measured[]>(contenders.map((c) => [c.name, []]));
  for (let round = 0; round < rounds; round++)
    for (const c of round % 2 ? [...contenders].reverse() : contenders) {
      const measured = await run(c);
      console.log(JSON.stringify(measured));
      seen.get(c.name)?.push(measured);
    }
  const medians = (name: string, figure: string): number =>
    median((seen.get(name) ?? []).map((m) => Number(m[figure])));
  const [own, ...peers] = contenders;
  for (const figure of figures)
    for (const peer of peers) {
      const [a, b] = [medians(own.name, figure), medians(peer.name, figure)];
      console.log(JSON.stringify({ figure, [own.name]: a, [peer.name]: b, ratio: Math.round((1e3 * a) / b) / 1e3 }));
    }
}

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};

export const round = (x: number, digits = 4): number => Math.round(x * 10 ** digits) / 10 ** digits;

/** Runs one in a process of its own. @throws FaultError where it fails */
export function run({ name, command, args }: Contender): Promise<Measured> {
  return new Promise((resolve, reject) => {
    const fail = (what: string, cause?: unknown): void =>
      reject(
        new FaultError({
          code: 'bench.peer-failed',
          subject: `${name}: ${what}`,
          remedy: 'set PYTHON to a Python with torch, onnx, transformers, sentence-transformers and datasets',
          cause,
        }),
      );
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, SHARED } });
    let out = '';
    child.stdout.on('data', (chunk) => {
      out += chunk;
    });
    child.on('error', (cause) => fail(`cannot run ${command}`, cause));
    child.on('close', (code) => {
      const last = out.trim().split('\n').at(-1) ?? '';
      if (code || !last.startsWith('{')) fail(`ended with status ${code} and printed '${last}'`);
      else resolve(JSON.parse(last));
    });
  });
}
