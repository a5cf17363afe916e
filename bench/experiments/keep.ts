/**
 * @file The table of `npm run experiments -- --only keep`: quality in the domain that was trained on and in others, and the share of
 * the loss there that each variant takes back.
 *
 *   npm run experiments -- --only keep [--variants NAME,...] [--seeds N,...] [--set KEY=VALUE ...]
 *   npm run experiments -- --only keep --table
 */
import type { Outcome } from './outcome.ts';

const METRIC = 'ndcg@10';
const OTHERS = /^ndcg@10 on (.+)$/;
/** The variant whose loss another is compared with, of the same further options; of one that learns fewer queries another. */
function alone(variant: string): string {
  const [name, ...options] = variant.split('; ');
  return [name.startsWith('daft') ? 'alone of 8000' : 'alone', ...options].join('; ');
}

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
const others = (metrics: Record<string, number>): number[] =>
  Object.entries(metrics).flatMap(([name, value]) => (OTHERS.test(name) ? [value] : []));

/** How much lower the mean over the other sets is than that of the encoder as it was. */
export function lossOf({ metrics, before }: Pick<Outcome, 'metrics' | 'before'>): number | undefined {
  return before && mean(others(before)) - mean(others(metrics));
}

/** The lines of the table: the encoder as it was, then a row a variant with means over its seeds. */
export function keepTable(all: readonly Outcome[]): string[] {
  const own = all.filter((o) => o.group === 'keep' && o.before && others(o.metrics).length);
  if (!own.length) return ['no run of the group keep is finished'];
  const sets = Object.keys(own[0].metrics).flatMap((name) => OTHERS.exec(name)?.[1] ?? []);
  const columns = [METRIC, ...sets.map((s) => `${METRIC} on ${s}`)];
  const row = (name: string, seeds: string, metrics: readonly Record<string, number>[], more: string[]): string => {
    const values = columns.map((c) => mean(metrics.map((m) => m[c])).toFixed(4));
    const rest = mean(metrics.map((m) => mean(others(m)))).toFixed(4);
    return `| ${[name, seeds, ...values, rest, ...more].join(' | ')} |`;
  };
  const head = ['variant', 'seeds', 'debian', ...sets, 'mean of others', 'loss', 'loss taken back'];
  const lines = [
    `| ${head.join(' | ')} |`,
    `| ${head.map(() => '---').join(' | ')} |`,
    row('encoder as it was', '', [own[0].before as Record<string, number>], ['0', '']),
  ];
  const runs = (variant: string) => own.filter((o) => o.variant === variant);
  for (const variant of new Set(own.map((o) => o.variant))) {
    const found = runs(variant);
    const loss = mean(found.map((o) => lossOf(o) as number));
    // Compared with the same seeds where there are some.
    const seeds = new Set(found.map((o) => o.seed));
    const whole = alone(variant);
    const same = runs(whole).filter((o) => seeds.has(o.seed));
    const first = same.length === found.length ? mean(same.map((o) => lossOf(o) as number)) : undefined;
    const share = variant === whole || first === undefined ? '' : `${((100 * (first - loss)) / first).toFixed(0)} %`;
    const called = [...seeds].sort((a, b) => a - b).join(', ');
    lines.push(
      row(
        variant,
        called,
        found.map((o) => o.metrics),
        [loss.toFixed(4), share],
      ),
    );
  }
  return lines;
}
