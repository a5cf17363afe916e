/**
 * @file Runs the comparisons of bench/experiments/experiments.yaml, several at a time, each in a separate process; finished runs are not
 * repeated.
 *
 *   npm run experiments -- [--only GROUP,...] [--variants NAME or part of one,...] [--seeds N,...] [--parallel N] [--threads N]
 * [--seconds N] [--set KEY=VALUE ...]
 *   npm run experiments -- --table
 *   npm run experiments -- --only keep [...]: what a student loses in other domains, and what is against it, see keep.ts
 *   npm run experiments -- --only recipes [...]: the chain with its defaults over several sets, see recipes.ts
 */
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parse } from 'yaml';
import { command, lastWords } from './command.ts';
import { keepTable } from './keep.ts';
import type { Outcome } from './outcome.ts';
import { type Recipes, recipeTable, runRecipes } from './recipes.ts';

interface Group {
  about: string;
  config: string;
  always?: string[];
  variants: Record<string, string[]>;
}
interface Experiments {
  seeds: number[];
  always: string[];
  recipes: Recipes;
  groups: Record<string, Group>;
}
const FOLDER = 'runs/experiments';
const RESULTS = join(FOLDER, 'results.jsonl');
const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    variants: { type: 'string' },
    seeds: { type: 'string' },
    parallel: { type: 'string', default: '1' },
    threads: { type: 'string' },
    seconds: { type: 'string', default: '86400' },
    table: { type: 'boolean', default: false },
    set: { type: 'string', multiple: true, default: [] },
    'teacher-set': { type: 'string', multiple: true, default: [] },
  },
});

const experiments: Experiments = parse(readFileSync('bench/experiments/experiments.yaml', 'utf8'));
const outcomes = (): Outcome[] =>
  existsSync(RESULTS)
    ? readFileSync(RESULTS, 'utf8')
        .split('\n')
        .filter(Boolean)
        .map((l) => JSON.parse(l))
    : [];

if (options.only === 'recipes') await recipes();
else if (options.table && options.only === 'keep') showKeep();
else if (options.table) table(outcomes());
else await runAll();

async function recipes(): Promise<void> {
  const folder = join(FOLDER, 'recipes');
  if (options.table) return recipeTable(experiments.recipes, folder);
  await runRecipes(experiments.recipes, {
    folder,
    only: options.variants?.split(','),
    seeds: options.seeds?.split(',').map(Number) ?? [0],
    sets: options.set,
    teacherSets: options['teacher-set'],
    until: Date.now() + 1000 * Number(options.seconds),
  });
}

function showKeep(): void {
  console.log(`\n### keep\n\n${experiments.groups.keep.about}\n\n${keepTable(outcomes()).join('\n')}`);
}

async function runAll(): Promise<void> {
  mkdirSync(FOLDER, { recursive: true });
  const done = new Set(outcomes().map((o) => `${o.group}/${o.variant}/${o.seed}`));
  const wanted = options.only?.split(',') ?? Object.keys(experiments.groups);
  const seeds = options.seeds?.split(',').map(Number) ?? experiments.seeds;
  const words = options.variants?.split(',');
  const jobs = seeds.flatMap((seed) =>
    wanted.flatMap((group) =>
      Object.entries(experiments.groups[group].variants)
        .filter(
          ([variant], _, all) =>
            words?.some((w) => (all.some(([name]) => name === w) ? variant === w : variant.includes(w))) ?? true,
        )
        .map(([name, sets]) => ({ group, variant: changed(name), sets: [...sets, ...options.set], seed })),
    ),
  );
  const queue = jobs.filter((j) => !done.has(`${j.group}/${j.variant}/${j.seed}`));
  console.log(`${queue.length} of ${jobs.length} runs are still to do`);
  const until = Date.now() + 1000 * Number(options.seconds);
  await Promise.all(
    Array.from({ length: Number(options.parallel) }, async () => {
      for (let job = queue.shift(); job && Date.now() < until; job = queue.shift()) await runOne(job);
    }),
  );
  if (options.only === 'keep') showKeep();
}

/** Results with options of the command line are not those of the variant. */
function changed(variant: string): string {
  return [variant, ...options.set].join('; ');
}

async function runOne(job: { group: string; variant: string; sets: string[]; seed: number }): Promise<void> {
  const { group, variant, seed } = job;
  const { config, always = [] } = experiments.groups[group];
  const output = join(FOLDER, group, `${variant.replace(/[^a-z0-9]+/gi, '-')}-${seed}`);
  const sets = [...experiments.always, ...always, ...job.sets, `seed=${seed}`];
  if (options.threads) sets.push(`train.threads=${options.threads}`);
  const args = [
    'run',
    `bench/configs/${config}.yaml`,
    ...sets.flatMap((s) => ['--set', s]),
    '--output',
    output,
    '--json',
  ];
  const started = Date.now();
  const { code, out, err } = await command(args);
  const name = `${group} / ${variant} / seed ${seed}`;
  if (code !== 0) return console.log(`${name}: exit ${code}: ${lastWords(err)}`);
  const report = JSON.parse(out.trim().split('\n').at(-1) as string);
  const student = report.systems.findLast((s: { name: string }) => /student/.test(s.name));
  const begun = report.systems.find(({ name }: { name: string }) =>
    ['encoder as it was', 'student before training'].includes(name),
  );
  const outcome: Outcome = {
    group,
    variant,
    seed,
    metrics: student.metrics,
    ...(begun && { before: begun.metrics }),
    ...(report.matryoshka && { matryoshka: report.matryoshka }),
    ...(report.continued && { continued: report.continued }),
    seconds: (Date.now() - started) / 1000,
    trainSeconds: report.seconds.train,
  };
  appendFileSync(RESULTS, `${JSON.stringify(outcome)}\n`);
  console.log(`${name}: ndcg@10 ${student.metrics['ndcg@10'].toFixed(4)} in ${outcome.seconds.toFixed(0)} s`);
}

/** Mean over seeds with half the width of its 95 % interval (Student's t). */
function table(all: readonly Outcome[]): void {
  const t95 = [Number.NaN, 12.706, 4.303, 3.182, 2.776];
  for (const [group, { about, variants }] of Object.entries(experiments.groups)) {
    console.log(
      `\n### ${group}\n\n${about}\n\n| variant | nDCG@10 | MRR@10 | Recall@100 | seeds | training |\n| --- | --- | --- | --- | --- | --- |`,
    );
    const replaced = all.filter((o) => o.group === group && !Object.hasOwn(variants, o.variant)).map((o) => o.variant);
    for (const variant of new Set([...Object.keys(variants), ...replaced])) {
      const own = all.filter((o) => o.group === group && o.variant === variant);
      if (!own.length) continue;
      const mean = (f: (o: Outcome) => number): number => own.reduce((s, o) => s + f(o), 0) / own.length;
      const cell = (m: string): string => {
        const mid = mean((o) => o.metrics[m]);
        const sd = Math.sqrt(own.reduce((s, o) => s + (o.metrics[m] - mid) ** 2, 0) / Math.max(1, own.length - 1));
        const half = own.length > 1 ? ` ± ${((t95[own.length - 1] * sd) / Math.sqrt(own.length)).toFixed(4)}` : '';
        return `${mid.toFixed(4)}${half}`;
      };
      const seconds = Math.round(mean((o) => o.trainSeconds));
      console.log(
        `| ${variant} | ${cell('ndcg@10')} | ${cell('mrr@10')} | ${cell('recall@100')} | ${own.length} | ${seconds} s |`,
      );
    }
  }
}
