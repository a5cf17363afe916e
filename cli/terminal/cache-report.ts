/** @file The output of the verbs of `distill cache`. */
import { shown } from '../../common/errors.ts';
import type { CacheSurvey, Pruned, Tally } from '../../teachers/cache/maintenance.ts';

const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
const count = (n: number): string => n.toLocaleString('en');
const short = (hash: string | undefined): string => hash?.slice(0, 8) ?? '-';
const day = (time: number | undefined): string => (time ? new Date(time).toISOString().slice(0, 10) : '-');
const nameOf = ({ id, name }: Tally): string => name ?? `(${id})`;

function table(given: readonly (readonly string[])[]): string {
  const rows = given.map((r) => r.map(shown));
  const widths = rows[0].map((_, c) => rows.reduce((most, r) => Math.max(most, r[c].length), 0));
  return rows
    .map(
      (r) =>
        `${r
          .map((cell, c) => cell.padEnd(widths[c]))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

export function renderSurvey({ folder, bytes, tallies, unreadable }: CacheSurvey): string {
  const rows = [...tallies]
    .sort((a, b) => b.bytes - a.bytes)
    .map((t) => [
      nameOf(t),
      t.kind ?? '-',
      short(t.key),
      short(t.tokenizer),
      count(t.scores),
      count(t.embeddings),
      megabytes(t.bytes),
      day(t.used),
    ]);
  const titles = ['teacher', 'kind', 'key', 'tokenizer', 'scores', 'embeddings', 'size', 'last used'];
  return [
    `${folder}: ${megabytes(bytes)}\n`,
    rows.length ? table([titles, ...rows]) : 'the cache is empty\n',
    ...(unreadable ? [`a part cannot be read (${unreadable}): distill cache verify --repair keeps the rest\n`] : []),
  ].join('');
}

/** Maximum of damaged records that are listed. */
const SHOWN = 20;

export function renderDamage({ folder, tallies, damaged, unreadable }: CacheSurvey, repaired: boolean): string {
  const all = tallies.reduce((n, t) => n + t.scores + t.embeddings, 0);
  const done = repaired && (damaged.length || unreadable) ? ', removed' : '';
  return [
    `${folder}: ${count(all)} records, ${count(damaged.length)} damaged${done}\n`,
    ...damaged.slice(0, SHOWN).map((d) => `  ${d.kind} by ${d.teacher}, record ${d.key}\n`),
    ...(damaged.length > SHOWN ? [`  and ${count(damaged.length - SHOWN)} more\n`] : []),
    ...(unreadable ? [`a part of the store cannot be read (${unreadable})${done}\n`] : []),
  ].join('');
}

export function renderPruned({ removed, kept, bytes }: Pruned): string {
  const records = (all: readonly Tally[]): string => count(all.reduce((n, t) => n + t.scores + t.embeddings, 0));
  return [
    ...removed.map((t) => `removed  ${nameOf(t)}, last used ${day(t.used)}: ${records([t])} records\n`),
    `${records(removed)} records removed, ${records(kept)} kept; ${megabytes(bytes.before)} before, ${megabytes(bytes.after)} after\n`,
  ].join('');
}
