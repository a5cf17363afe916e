/** @file A small world for tests of the command: data, models and a config in a folder of their own, and the command run in it. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { stringify } from 'yaml';
import { main } from '../../cli/program.ts';
import { Random } from '../../math/random.ts';
import { freshModel } from '../../models/new-model.ts';

const words = 'open file list process network packet editor text image audio video server client mail print scan'.split(
  ' ',
);
const random = Random.of(5, 'world');
const draw = (n: number): string => Array.from({ length: n }, () => words[random.integer(words.length)]).join(' ');

export const documents = Array.from({ length: 40 }, (_, i) => ({ _id: `d${i}`, title: `t${i}`, text: draw(8) }));
export const queries = Array.from({ length: 24 }, (_, i) => ({
  _id: `q${i}`,
  text: documents[i].text.split(' ').slice(0, 3).join(' '),
}));

export const jsonl = (rows: readonly object[]): string => rows.map((r) => `${JSON.stringify(r)}\n`).join('');
const qrels = (from: number, to: number): string =>
  `query-id\tcorpus-id\tscore\n${queries
    .slice(from, to)
    .map((_, i) => `q${from + i}\td${from + i}\t1\n`)
    .join('')}`;

export function write(folder: string, files: Readonly<Record<string, string | Uint8Array>>): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
}

const tiny = { hidden: 16, layers: 1, heads: 2, maxLength: 64, vocabulary: 200 };
const texts = { length: documents.length, text: (i: number) => documents[i].text };

/** A folder with data/, models cross/ and dual/, teacher-scores-train.tsv and distill.yaml. */
export async function makeWorld(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'world-'));
  write(folder, {
    'data/corpus.jsonl': jsonl(documents),
    'data/queries.jsonl': jsonl(queries),
    'data/qrels/train.tsv': qrels(0, 16),
    'data/qrels/dev.tsv': qrels(16, 20),
    'data/qrels/test.tsv': qrels(20, 24),
    'teacher-scores-train.tsv': queries
      .slice(0, 16)
      .flatMap((_, q) => [q, q + 1, q + 5, q + 9].map((d, i) => `q${q}\td${d}\t${4 - i + Math.sin(q)}\n`))
      .join(''),
    'distill.yaml': stringify(tinyConfig),
  });
  await freshModel(join(folder, 'cross'), texts, { ...tiny, kind: 'cross-encoder' });
  await freshModel(join(folder, 'dual'), texts, tiny);
  return folder;
}

/** Trains two steps; paths are relative to the folder. */
export const tinyConfig = {
  output: 'out',
  cache: 'cache',
  data: { path: 'data' },
  teacher: { kind: 'cross-encoder', model: 'cross' },
  student: { model: 'dual', queryTokens: 16, documentTokens: 32 },
  candidates: { count: 4 },
  train: { steps: 2, batchSize: 4, candidates: 4, warmupSteps: 1, threads: 1 },
};

export interface Outcome {
  code: number;
  out: string;
  err: string;
}

/** Runs the command in this process. */
export async function distill(...argv: string[]): Promise<Outcome> {
  const [out, err]: string[][] = [[], []];
  const into = (lines: string[]) => ({ write: (text: string) => void lines.push(text) });
  const code = await main(argv, { out: into(out), err: into(err) }, new AbortController().signal);
  return { code, out: out.join(''), err: err.join('') };
}

/** Every file below a folder with its content, to see that nothing changed. */
export function snapshot(folder: string): Record<string, string> {
  const all = readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => join(folder, name));
  return Object.fromEntries(
    all.filter((f) => statSync(f).isFile()).map((f) => [relative(folder, f), readFileSync(f).toString('base64')]),
  );
}
