/**
 * @file The chain with its defaults over several data sets: one command per set, as a new user would run it, and one table.
 *
 *   npm run experiments -- --only recipes [--variants SET,...] [--seeds N,...] [--set KEY=VALUE ...] [--teacher-set KEY=VALUE
 * ...]
 *   npm run experiments -- --only recipes --table
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { command, lastWords } from './command.ts';

/** The section `recipes` of bench/experiments/experiments.yaml. */
export interface Recipes {
  about: string;
  encoder: string;
  /** Teacher by data set: a cross-encoder, or `train` to train one from the encoder with train-teacher. */
  sets: Record<string, string>;
}

/** The result of one data set. */
interface Row {
  set: string;
  seed: number;
  /** Options that replace defaults; results with any of them are not results of the defaults. */
  options: string[];
  /** nDCG@10 on test by system. */
  ndcg: Record<string, number>;
  /** Quality of assistant and towers relative to the teacher, where it is better than the encoder before training. */
  retention?: number;
  verdict?: string;
  teacherVerdict?: string;
  seconds: { teacher: number; chain: number };
}

export interface RecipeOptions {
  folder: string;
  only?: readonly string[];
  seeds: readonly number[];
  sets: readonly string[];
  teacherSets: readonly string[];
  /** No data set is started after this time. */
  until: number;
}

const METRIC = 'ndcg@10';
const shared = (path: string): string => resolve(process.env.SHARED ?? '../shared', path);
const file = (folder: string): string => join(folder, 'results.jsonl');
const rows = (folder: string): Row[] =>
  existsSync(file(folder))
    ? readFileSync(file(folder), 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((l) => JSON.parse(l))
    : [];
const flags = (name: string, values: readonly string[]): string[] => values.flatMap((v) => [name, v]);

/** Runs the missing data sets one after another, and prints the table. */
export async function runRecipes(recipes: Recipes, options: RecipeOptions): Promise<void> {
  const { folder, only, seeds, sets, teacherSets, until } = options;
  mkdirSync(folder, { recursive: true });
  const changed = [...sets, ...teacherSets.map((s) => `teacher: ${s}`)];
  const done = new Set(rows(folder).map((r) => JSON.stringify([r.set, r.seed, r.options])));
  for (const seed of seeds)
    for (const [set, teacher] of Object.entries(recipes.sets)) {
      if ((only && !only.includes(set)) || done.has(JSON.stringify([set, seed, changed])) || Date.now() > until)
        continue;
      const row = await runSet(recipes, set, teacher, seed, changed, options);
      if (!row) continue;
      appendFileSync(file(folder), `${JSON.stringify(row)}\n`);
      for (const said of [row.teacherVerdict, row.verdict]) if (said) console.log(`${set}: ${said}`);
    }
  recipeTable(recipes, folder);
}

async function runSet(
  { encoder }: Recipes,
  set: string,
  teacher: string,
  seed: number,
  changed: string[],
  { folder, sets, teacherSets }: RecipeOptions,
): Promise<Row | undefined> {
  const name = changed.length ? `${set}-${seed}-changed` : `${set}-${seed}`;
  const own = join(folder, name);
  const data = shared(`data/${set}`);
  mkdirSync(own, { recursive: true });
  const seconds = { teacher: 0, chain: 0 };
  let cross = shared(teacher);
  let teacherVerdict: string | undefined;
  if (teacher === 'train') {
    cross = join(own, 'teacher');
    const started = Date.now();
    const given = ['--data', data, '--model', shared(encoder), '--output', cross, '--json'];
    const kept = join(own, 'teacher.json');
    if (!existsSync(kept)) {
      const { code, out, err } = await command([
        'train-teacher',
        ...given,
        ...flags('--set', [`seed=${seed}`, ...teacherSets]),
      ]);
      if (code !== 0) return console.log(`${name}: train-teacher: exit ${code}: ${lastWords(err)}`) as undefined;
      const report = JSON.parse(out.trim().split('\n').at(-1) as string);
      writeFileSync(kept, JSON.stringify({ ...report, seconds: (Date.now() - started) / 1000 }));
    }
    const report = JSON.parse(readFileSync(kept, 'utf8'));
    teacherVerdict = report.verdict;
    seconds.teacher = report.seconds;
  }
  const config = join(own, 'distill.yaml');
  writeFileSync(
    config,
    stringify({
      pipeline: 'chain',
      data: { path: data },
      teacher: { kind: 'cross-encoder', model: resolve(cross) },
      student: { model: shared(encoder) },
    }),
  );
  const started = Date.now();
  const output = join(own, 'chain');
  const { code, out, err } = await command([
    ...['run', config, '--output', output, '--json'],
    ...flags('--set', [`seed=${seed}`, ...sets]),
  ]);
  if (code !== 0) return console.log(`${name}: exit ${code}: ${lastWords(err)}`) as undefined;
  seconds.chain = (Date.now() - started) / 1000;
  const report = JSON.parse(out.trim().split('\n').at(-1) as string);
  const ndcg = Object.fromEntries(
    report.systems.map((s: { name: string; metrics: Record<string, number> }) => [s.name, s.metrics[METRIC]]),
  );
  const { verdict, retention } = report;
  return { set, seed, options: changed, ndcg, verdict, teacherVerdict, retention: retention?.[METRIC], seconds };
}

/** Columns of the table: each is the first of these report rows that exists. */
const columns: readonly [string, readonly string[]][] = [
  ['BM25', ['BM25']],
  ['encoder as it was', ['encoder as it was', 'student before training']],
  ['teacher', ['teacher']],
  ['assistant', ['assistant']],
  ['+ BM25', ['assistant + BM25']],
  ['query tower', ['query tower']],
  ['+ BM25', ['query tower + BM25']],
  ['static tower', ['static tower']],
  ['+ BM25', ['static tower + BM25']],
];

/** One row per data set with means over seeds. A hybrid that the dev split rejected is a dash. */
export function recipeTable({ about }: Recipes, folder: string): void {
  const all = rows(folder);
  const head = ['set', ...columns.map(([title]) => title), 'share kept', 'seconds'];
  console.log(`\n### recipes\n\n${about}\n\n| ${head.join(' | ')} |\n| ${head.map(() => '---').join(' | ')} |`);
  for (const key of new Set(all.map((r) => JSON.stringify([r.set, r.options])))) {
    const own = all.filter((r) => JSON.stringify([r.set, r.options]) === key);
    const mean = (values: readonly (number | undefined)[]): number | undefined => {
      const found = values.filter((v): v is number => v !== undefined);
      return found.length ? found.reduce((a, b) => a + b, 0) / found.length : undefined;
    };
    const cells = columns.map(([, names]) => {
      const value = mean(own.map((r) => names.map((n) => r.ndcg[n]).find((v) => v !== undefined)));
      return value === undefined ? '-' : value.toFixed(4);
    });
    const kept = mean(own.map((r) => r.retention));
    const [{ set, options }] = own;
    const name = `${set}${own.length > 1 ? ` (${own.length} seeds)` : ''}${options.length ? ` (${options.join(', ')})` : ''}`;
    const share = kept === undefined ? 'no better teacher' : `${(100 * kept).toFixed(1)} %`;
    const seconds = mean(own.map((r) => r.seconds.teacher + r.seconds.chain)) as number;
    console.log(`| ${[name, ...cells, share, seconds.toFixed(0)].join(' | ')} |`);
  }
}
