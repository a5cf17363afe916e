/** @file The report: one HTML file without scripts or network access, in light and dark, for desktop and phone. */
import { curve, deferralChart, intervals, ladder, lossCurve, queryDifferences, tradeOff } from './charts.ts';
import type { Comparison, Differences, Example, Figures } from './figures.ts';
import { html, type Markup } from './markup.ts';
import { style } from './style.ts';
import { calibrationTable, costTable, fidelityTable, metricTable, type TableData } from './tables.ts';

/** A report as the text of an HTML file. All inserted text is escaped. */
export function renderHtml(figures: Figures): string {
  const metric = Object.keys(figures.systems[0]?.metrics ?? {})[0] ?? 'ndcg@10';
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>${figures.title}</title>
<style>${style}</style>
</head>
<body>
<header>
<h1>${figures.title}</h1>
<dl class="facts">${figures.facts.map(([k, v]) => html`<div><dt>${k}</dt><dd>${v}</dd></div>`)}</dl>
</header>
<main>
${headline(figures, metric)}
${section('Systems', legend(figures), ladder(figures.systems, metric), table(metricTable(figures.systems)))}
${tradeOffs(figures, metric)}
${(figures.comparisons ?? []).map((c) => comparison(c, figures, metric))}
${figures.fidelity && section('Fidelity', note('Agreement of the student with the teacher on the same candidates, independent of labels.'), table(fidelityTable(figures.fidelity)))}
${(figures.calibration || figures.geometry) && section('Calibration and geometry', table(calibrationTable(figures)))}
${figures.cost && figures.cost.length > 0 && section('Cost', table(costTable(figures.cost)), figures.speedFactor && note(`The teacher takes ${figures.speedFactor.toFixed(0)} times as long to re-rank a query's candidates as the student to embed the query.`))}
${figures.index && indexSection(figures.index)}
${figures.deferral && section('Deferral to the teacher', note('Quality by the number of documents that the teacher scores per query, compared with deferring whole queries at random and by an oracle that knows the gain of each.'), deferralChart(figures.deferral, metric))}
${curves(figures, metric)}
${training(figures)}
${figures.differences && disagreements(figures.differences)}
${figures.notes.length > 0 && section('Notes', html`<ul>${figures.notes.map((n) => html`<li>${n}</li>`)}</ul>`)}
</main>
<footer>Made by onnx-distill. Metrics are trec_eval's: linear gain, ties by document id descending, queries missing from a run count 0.</footer>
</body>
</html>
`;
  return page.text;
}

const section = (title: string, ...content: Parameters<typeof html>[1][]): Markup =>
  html`<section><h2>${title}</h2>${content}</section>`;
const note = (text: string): Markup => html`<p class="note">${text}</p>`;

const table = ({ head, rows, caption }: TableData): Markup =>
  html`<div class="scroll"><table>${caption && html`<caption>${caption}</caption>`}<thead><tr>${head.map((h) => html`<th scope="col">${h}</th>`)}</tr></thead><tbody>${rows.map(
    ([first, ...rest]) => html`<tr><th scope="row">${first}</th>${rest.map((c) => html`<td>${c}</td>`)}</tr>`,
  )}</tbody></table></div>`;

function headline(figures: Figures, metric: string): Markup | undefined {
  const kept = figures.comparisons?.find((c) => c.b.startsWith('teacher'))?.rows[0];
  const quick = figures.cost?.find((c) => c.role === 'student');
  const student = figures.systems.find((s) => s.role === 'student');
  const tiles: [string, string, string][] = [];
  if (student) tiles.push([student.metrics[metric]?.toFixed(4) ?? '', metric, student.name]);
  if (kept)
    tiles.push([
      `${(100 * kept.retention.value).toFixed(1)} %`,
      `of the teacher's ${kept.metric}`,
      `95 % interval ${(100 * kept.retention.low).toFixed(1)} to ${(100 * kept.retention.high).toFixed(1)}`,
    ]);
  const bytes = quick?.bytes ?? student?.bytes;
  if (bytes)
    tiles.push([
      `${(bytes / 1e6).toFixed(1)} MB`,
      'on disk',
      quick ? `${(quick.parameters / 1e6).toFixed(1)} M weights` : '',
    ]);
  const milliseconds = quick?.p50 ?? student?.queryMilliseconds;
  if (milliseconds !== undefined)
    tiles.push([
      `${milliseconds.toFixed(1)} ms`,
      'a query, median',
      figures.speedFactor ? `${figures.speedFactor.toFixed(0)} times the teacher's speed` : '',
    ]);
  return html`<div class="tiles">${tiles.map(([value, label, more]) => html`<div class="tile"><b>${value}</b><span>${label}</span><small>${more}</small></div>`)}</div>`;
}

const legend = (figures: Figures): Markup =>
  html`<p class="legend">${[...new Set(figures.systems.map((s) => s.role))].map((r) => html`<span class="${r}">${r}</span>`)}</p>`;

function tradeOffs(figures: Figures, metric: string): Markup | undefined {
  const charts = [tradeOff(figures.systems, metric, 'queryMilliseconds'), tradeOff(figures.systems, metric, 'bytes')];
  if (!charts.some(Boolean)) return undefined;
  return section('Quality against cost', charts);
}

function comparison(c: Comparison, figures: Figures, metric: string): Markup {
  const per = figures.perQuery?.systems;
  const [a, b] = [per?.[c.a]?.[metric], per?.[c.b]?.[metric]];
  return section(
    `${c.a} against ${c.b}`,
    note(
      `On ${c.on}: retention with a bootstrap interval over queries; p by a paired sign-flip test after Holm's correction.`,
    ),
    intervals(c.rows),
    table({
      head: ['metric', 'kept', '95 % interval', 'difference', 'p', 'better', 'equal', 'worse'],
      rows: c.rows.map((r) => [
        r.metric,
        `${(100 * r.retention.value).toFixed(1)} %`,
        `${(100 * r.retention.low).toFixed(1)} to ${(100 * r.retention.high).toFixed(1)}`,
        r.difference.toFixed(4),
        r.pHolm < 0.001 ? '< 0.001' : r.pHolm.toFixed(3),
        String(r.wins),
        String(r.ties),
        String(r.losses),
      ]),
    }),
    a && b && queryDifferences(a, b, metric),
  );
}

function indexSection(index: NonNullable<Figures['index']>): Markup {
  return section(
    'Approximate search',
    table({
      head: [
        'index',
        'documents',
        `recall of the exact ${index.k}`,
        'ms per query',
        'exact, ms per query',
        'seconds to build',
      ],
      rows: [
        [
          index.name,
          index.documents.toLocaleString('en'),
          `${(100 * index.recall).toFixed(1)} %`,
          index.queryMilliseconds.toFixed(2),
          index.exactMilliseconds.toFixed(2),
          index.buildSeconds.toFixed(1),
        ],
      ],
    }),
  );
}

function curves(figures: Figures, metric: string): Markup[] {
  const { matryoshka, cost } = figures;
  const files = (cost ?? []).flatMap((c) =>
    c.quality === undefined
      ? []
      : [{ name: c.name, role: c.role, metrics: { [metric]: c.quality }, bytes: c.bytes, queryMilliseconds: c.p50 }],
  );
  const byType = files.length > 1 ? tradeOff(files, metric, 'bytes') : undefined;
  return [
    ...(matryoshka && matryoshka.length > 1
      ? [
          section(
            'Fewer dimensions',
            note('The first dimensions of every vector, truncated and re-normalised.'),
            curve(
              [...matryoshka].reverse().map((m) => [m.dimensions, m.value]),
              'dimensions',
              metric,
              true,
            ),
          ),
        ]
      : []),
    ...(byType ? [section('Files of the checkpoint', byType)] : []),
  ];
}

function training(figures: Figures): Markup | undefined {
  const t = figures.training;
  if (!t?.log.length) return undefined;
  return section(
    'Training',
    lossCurve(t),
    t.evaluations.length > 1 &&
      curve(
        t.evaluations.map((e) => [e.step, e.score]),
        'step',
        'dev score',
      ),
  );
}

function disagreements(d: Differences): Markup {
  const list = (title: string, examples: readonly Example[]): Markup | false =>
    examples.length > 0 && html`<h3>${title}</h3>${examples.map((e) => disagreement(e, d))}`;
  return section(
    'Where they disagree',
    note(
      `Queries with the largest difference in ${d.metric}, and the top documents of each system; relevant documents are marked.`,
    ),
    list(`${d.a} does better`, d.better),
    list(`${d.b} does better`, d.worse),
  );
}

function disagreement(e: Example, d: Differences): Markup {
  const side = (name: string, value: number, top: Example['topA']): Markup =>
    html`<div><h4>${name} <b>${value.toFixed(3)}</b></h4><ol>${top.map(
      (t) => html`<li${t.grade > 0 && html` class="relevant"`}><b>${t.id}</b> ${t.text}</li>`,
    )}</ol></div>`;
  return html`<details><summary><q>${e.query}</q> <span class="delta">${e.a.toFixed(2)} / ${e.b.toFixed(2)}</span></summary><div class="sides">${side(d.a, e.a, e.topA)}${side(d.b, e.b, e.topB)}</div></details>`;
}
