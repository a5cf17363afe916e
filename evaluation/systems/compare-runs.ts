/** @file Compares runs: their students, the other systems that they measured, and the significance of differences. */
import { existsSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { z } from 'zod';
import { InputError } from '../../common/errors.ts';
import { writeWhole } from '../../common/files.ts';
import { readJsonValue } from '../../models/model-folder.ts';
import { compareEvaluations } from '../metrics/compare.ts';
import type { RunEvaluation } from '../metrics/evaluate.ts';
import { roleOf } from '../report/facts.ts';
import type { Comparison, Figures, SystemFigures } from '../report/figures.ts';

export interface CompareOptions {
  /** Folders with a report.json, or files that `distill evaluate --json` wrote; the first is what others are compared with. */
  runs: readonly string[];
  /** File written. */
  html?: string;
  json?: string;
  seed?: number;
  samples?: number;
}

/** A report read back, under a name that distinguishes it from the others. */
interface Loaded {
  name: string;
  figures: Figures;
}

/**
 * Compares finished runs with the first one, query by query, and writes the report and figures that the options name.
 * @throws InputError where a run has no report, or fewer than two are given
 */
export async function compareRuns(options: CompareOptions): Promise<Figures> {
  if (options.runs.length < 2)
    throw new InputError({
      code: 'compare.few',
      subject: 'runs are compared with each other',
      expected: 'at least two folders or files',
      received: String(options.runs.length),
      remedy: 'name another run',
    });
  const loaded: Loaded[] = [];
  const names = shortNames(options.runs);
  for (const [i, path] of options.runs.entries()) loaded.push({ name: names[i], figures: await load(path) });
  const notes: string[] = [];
  const systems: SystemFigures[] = [];
  for (const { name, figures } of loaded)
    for (const s of figures.systems) {
      const own = s.role === 'student';
      // A system that several runs measured alike (BM25, the same teacher) has one row.
      if (!own && systems.some((t) => t.name === s.name && same(t.metrics, s.metrics))) continue;
      const taken = systems.some((t) => t.name === s.name);
      systems.push({ ...s, name: own ? `${name}: ${s.name}` : taken ? `${name}: ${s.name}` : s.name });
    }
  const first = loaded[0];
  const comparisons: Comparison[] = [];
  const perQuery: NonNullable<Figures['perQuery']> = {
    ...(first.figures.perQuery?.of !== undefined && { of: first.figures.perQuery.of }),
    queryIds: first.figures.perQuery?.queryIds ?? [],
    systems: {},
  };
  for (const other of loaded) {
    const [a, b] = [evaluationOf(other), evaluationOf(first)];
    if (a && sameQueries(a.queryIds, perQuery.queryIds))
      perQuery.systems[`${other.name}: student`] = Object.fromEntries(
        Object.entries(a.perQuery).map(([m, v]) => [m, Array.from(v)]),
      );
    if (other === first) continue;
    if (!a || !b || !sameQueries(a.queryIds, b.queryIds)) {
      notes.push(
        `${other.name} and ${first.name} were not measured on the same queries with values a query: no test of their difference`,
      );
      continue;
    }
    const sampled = first.figures.perQuery?.of;
    if (sampled !== undefined)
      notes.push(
        `${other.name} and ${first.name} are compared on ${b.queryIds.length} of ${sampled} queries, those whose values the reports hold`,
      );
    const shared = Object.keys(a.perQuery).filter((m) => m in b.perQuery);
    comparisons.push({
      a: `${other.name}: student`,
      b: `${first.name}: student`,
      on: 'the same queries',
      rows: compareEvaluations(a, b, shared, options),
    });
  }
  const figures: Figures = {
    title: `${loaded.length} runs`,
    facts: loaded.map(({ name, figures: f }) => [name, f.facts.map(([k, v]) => `${k} ${v}`).join('; ')]),
    notes,
    systems,
    comparisons,
    perQuery,
  };
  if (options.json) await writeWhole(options.json, `${JSON.stringify(figures)}\n`);
  if (options.html) {
    const { renderHtml } = await import('../report/html.ts');
    await writeWhole(options.html, renderHtml(figures));
  }
  return figures;
}

/** What is read of a report; a non-finite value is null in JSON. */
const number = z.number().nullable();
const values = z.record(z.string(), number);
const reportSchema = z.looseObject({
  title: z.string().optional(),
  facts: z.array(z.tuple([z.string(), z.string()])).optional(),
  notes: z.array(z.string()).optional(),
  systems: z.array(
    z.looseObject({
      name: z.string(),
      role: z.enum(['student', 'teacher', 'baseline', 'other']).optional(),
      metrics: values,
      bytes: number.optional(),
      queryMilliseconds: number.optional(),
    }),
  ),
  perQuery: z
    .object({
      queryIds: z.array(z.string()),
      of: z.number().optional(),
      systems: z.record(z.string(), z.record(z.string(), z.array(number))),
    })
    .refine(
      ({ queryIds: { length }, systems }) =>
        Object.values(systems).every((s) => Object.values(s).every((v) => v.length === length)),
      'has other than one value a query',
    )
    .optional(),
});

async function load(path: string): Promise<Figures> {
  const file = existsSync(path) && statSync(path).isDirectory() ? join(path, 'report.json') : path;
  const value = existsSync(file) ? ((await readJsonValue(file)) as Partial<Figures> | null) : undefined;
  if (!value || !Array.isArray(value.systems))
    throw new InputError({
      code: 'compare.no-report',
      subject: `${file} ${value === undefined ? 'is not there' : 'holds no systems'}`,
      expected: "a run's report.json, or what distill evaluate --json writes",
      remedy: 'name the output folder of a finished run, or such a file',
    });
  const checked = reportSchema.safeParse(value);
  if (!checked.success) {
    const [{ path: place, message }] = checked.error.issues;
    throw new InputError({
      code: 'compare.report',
      subject: `${file} is not a report: '${place.join('.')}' ${message.replace(/^Invalid input: /, '')}`,
      remedy: 'run the command that wrote it again, or name another file',
    });
  }
  return {
    ...value,
    title: value.title ?? path,
    facts: value.facts ?? [],
    notes: value.notes ?? [],
    systems: value.systems.map((s) => ({ ...s, role: s.role ?? roleOf(s.name) })),
  };
}

function evaluationOf({ figures }: Loaded): RunEvaluation | undefined {
  const values = figures.perQuery?.systems.student;
  const means = figures.systems.find((s) => s.name === 'student')?.metrics;
  return values && means && figures.perQuery
    ? {
        queryIds: figures.perQuery.queryIds,
        perQuery: Object.fromEntries(Object.entries(values).map(([m, v]) => [m, Float64Array.from(v)])),
        means,
      }
    : undefined;
}

const sameQueries = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((q, i) => q === b[i]);
const same = (a: Record<string, number>, b: Record<string, number>): boolean =>
  Object.keys(a).every((m) => Math.abs(a[m] - b[m]) < 1e-9);

/** The last part of each path; with its parent, or whole, where that does not distinguish them. */
function shortNames(paths: readonly string[]): string[] {
  const choices = [
    (p: string) => basename(resolve(p)),
    (p: string) => join(basename(dirname(resolve(p))), basename(resolve(p))),
    (p: string) => resolve(p),
  ];
  for (const name of choices) {
    const names = paths.map(name);
    if (new Set(names).size === names.length) return names;
  }
  return paths.map((p, i) => `${i + 1} ${basename(resolve(p))}`);
}
