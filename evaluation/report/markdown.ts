/** @file The report's figures in markdown, for a model card. */
import type { Figures } from './figures.ts';
import { calibrationTable, costTable, fidelityTable, metricTable, type TableData } from './tables.ts';

/** Escapes names so that they neither break a table nor become markup. */
const cell = (text: string): string => text.replace(/[\\`*_{}[\]<>|]/g, (c) => `\\${c}`).replace(/\s+/g, ' ');

const table = ({ head, rows }: TableData): string =>
  [head, head.map((_, i) => (i ? '---:' : '---')), ...rows]
    .map((r, i) => `| ${r.map((c) => (i === 1 ? c : cell(c))).join(' | ')} |`)
    .join('\n');

/** Systems, retention, fidelity, calibration, dimensions and cost as markdown sections. */
export function renderMarkdown(figures: Figures): string {
  const { fidelity, cost, matryoshka, comparisons = [] } = figures;
  const metric = Object.keys(figures.systems[0]?.metrics ?? {})[0] ?? 'ndcg@10';
  const parts = [
    `## ${cell(figures.title)}\n\n${figures.facts.map(([k, v]) => `${cell(k)}: ${cell(v)}`).join('; ')}.\n\n${table(metricTable(figures.systems))}`,
    ...comparisons.map(
      (c) =>
        `### ${cell(c.a)} against ${cell(c.b)} (${cell(c.on)})\n\n${table({
          head: ['metric', 'kept', '95 % interval', 'p (Holm)', 'better / equal / worse'],
          rows: c.rows.map((r) => [
            r.metric,
            `${(100 * r.retention.value).toFixed(1)} %`,
            `${(100 * r.retention.low).toFixed(1)} to ${(100 * r.retention.high).toFixed(1)}`,
            r.pHolm < 0.001 ? 'under 0.001' : r.pHolm.toFixed(3),
            `${r.wins} / ${r.ties} / ${r.losses}`,
          ]),
        })}`,
    ),
    fidelity && `### Fidelity to the teacher\n\n${table(fidelityTable(fidelity))}`,
    (figures.calibration || figures.geometry) && `### Calibration and geometry\n\n${table(calibrationTable(figures))}`,
    cost?.length && `### Cost\n\n${table(costTable(cost))}`,
    matryoshka &&
      matryoshka.length > 1 &&
      `### Fewer dimensions\n\n${table({ head: ['dimensions', metric], rows: matryoshka.map((m) => [String(m.dimensions), m.value.toFixed(4)]) })}`,
    figures.notes.length > 0 && figures.notes.map((n) => `- ${cell(n)}`).join('\n'),
  ];
  return `${parts.filter(Boolean).join('\n\n')}\n`;
}
