/**
 * @file Charts as inline SVG, drawn by echarts without a browser; colours are CSS variables, so that they follow the page's
 * theme.
 */
import { BarChart, CustomChart, LineChart, ScatterChart } from 'echarts/charts';
import { GridComponent, LegendComponent, MarkLineComponent } from 'echarts/components';
import { type EChartsCoreOption, init, use } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import type { DeferralFigures, Figures, SystemFigures } from './figures.ts';
import { html, Markup, printable } from './markup.ts';

use([BarChart, CustomChart, LineChart, ScatterChart, GridComponent, LegendComponent, MarkLineComponent, SVGRenderer]);

/** Placeholder colours that the renderer can parse; each is replaced by the variable of its name. */
const colors = {
  text: '#010203',
  faint: '#010204',
  line: '#010205',
  student: '#010206',
  teacher: '#010207',
  baseline: '#010208',
  other: '#010209',
  good: '#01020a',
  bad: '#01020b',
  card: '#01020c',
} as const;

const WIDE = 760;
const NARROW = 340;

/** Chart options for a given width (desktop and phone). */
type Draw = (width: number) => { height: number; option: EChartsCoreOption };

/** A chart in two versions, for wide and narrow screens, with an accessible description. */
export function chart(label: string, draw: Draw): Markup {
  const svg = (width: number): Markup => {
    const { height, option } = draw(width);
    const instance = init(null, null, { renderer: 'svg', ssr: true, width, height });
    instance.setOption({ animation: false, textStyle: { fontFamily: 'inherit', color: colors.text }, ...option });
    let text = printable(instance.renderToSVGString());
    instance.dispose();
    for (const [name, stand] of Object.entries(colors)) text = text.replaceAll(stand, `var(--${name})`);
    return new Markup(text.replace(/<rect width="\d+" height="\d+" x="0" y="0"[^>]*fill="none"[^>]*><\/rect>/, ''));
  };
  return html`<figure role="img" aria-label="${label}"><div class="wide">${svg(WIDE)}</div><div class="narrow">${svg(NARROW)}</div></figure>`;
}

const axis = (more: object = {}): object => ({
  axisLine: { lineStyle: { color: colors.line } },
  axisTick: { show: false },
  splitLine: { lineStyle: { color: colors.line } },
  axisLabel: { color: colors.faint, fontSize: 12 },
  nameTextStyle: { color: colors.faint, fontSize: 12 },
  nameLocation: 'middle',
  nameGap: 32,
  ...more,
});
const cut = (text: string, length: number): string => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
const short = (x: number): string => String(Number(x.toPrecision(4)));
const color = (s: SystemFigures): string => colors[s.role];

/** Bar chart of systems by one metric, best on top. */
export function ladder(systems: readonly SystemFigures[], metric: string): Markup {
  const rows = [...systems].sort((a, b) => a.metrics[metric] - b.metrics[metric]);
  return chart(`${metric} of ${rows.length} systems`, (width) => ({
    height: 40 + rows.length * (width < 500 ? 46 : 34),
    option: {
      grid: { left: width < 500 ? 8 : 290, right: 58, top: 6, bottom: 26 },
      xAxis: axis({ type: 'value', min: 0, max: (e: { max: number }) => Math.min(1, Math.ceil(e.max * 10) / 10) }),
      yAxis: axis({
        type: 'category',
        data: rows.map((s) => s.name),
        splitLine: { show: false },
        axisLabel: { show: width >= 500, color: colors.text, fontSize: 13, formatter: (n: string) => cut(n, 40) },
      }),
      series: [
        {
          type: 'bar',
          barWidth: width < 500 ? 16 : 20,
          data: rows.map((s) => ({ value: s.metrics[metric], itemStyle: { color: color(s), borderRadius: 4 } })),
          label: {
            show: true,
            position: 'right',
            color: colors.text,
            fontSize: 13,
            formatter: (p: { value: number }) => p.value.toFixed(4),
          },
        },
        ...(width < 500
          ? [
              {
                // On narrow screens names are above the bars.
                type: 'custom',
                silent: true,
                data: rows.map((_, i) => [0, i]),
                renderItem: (_: object, api: { coord(p: number[]): number[]; value(i: number): number }): object => {
                  const [x, y] = api.coord([0, api.value(1)]);
                  return {
                    type: 'text',
                    style: {
                      text: cut(rows[api.value(1)].name, 44),
                      fontFamily: 'inherit',
                      x,
                      y: y - 22,
                      fontSize: 12,
                      fill: colors.text,
                    },
                  };
                },
              },
            ]
          : []),
      ],
    },
  }));
}

/** Quality against what an answer or a download costs, on a logarithmic scale. */
export function tradeOff(
  systems: readonly SystemFigures[],
  metric: string,
  key: 'bytes' | 'queryMilliseconds',
): Markup | undefined {
  const points = systems.filter((s) => (s[key] ?? 0) > 0);
  // Points at the same cost would show no trade-off.
  if (new Set(points.map((s) => s[key])).size < 2) return undefined;
  const unit = key === 'bytes' ? 'megabytes on disk' : 'milliseconds per query';
  const at = (s: SystemFigures): number => (key === 'bytes' ? (s.bytes ?? 0) / 1e6 : (s.queryMilliseconds ?? 0));
  return chart(`${metric} against ${unit}`, (width) => ({
    height: 300,
    option: {
      grid: { left: 54, right: 24, top: 24, bottom: 48 },
      xAxis: axis({
        type: 'log',
        name: unit,
        min: (e: { min: number }) => 10 ** Math.floor(Math.log10(e.min)),
        max: (e: { max: number }) => 10 ** Math.ceil(Math.log10(e.max * 1.01)),
      }),
      yAxis: axis({
        type: 'value',
        name: metric,
        nameGap: 40,
        scale: true,
        axisLabel: { color: colors.faint, formatter: short },
      }),
      series: [
        {
          type: 'scatter',
          symbolSize: 16,
          data: points.map((s) => ({
            name: s.name,
            value: [at(s), s.metrics[metric]],
            itemStyle: { color: color(s), borderColor: colors.card, borderWidth: 2 },
            label: { position: Math.log10(at(s)) > middle(points.map(at)) ? 'left' : 'right' },
          })),
          label: {
            show: true,
            color: colors.text,
            fontSize: 12,
            formatter: (p: { name: string }) => cut(p.name, width < 500 ? 18 : 34),
          },
          labelLayout: { moveOverlap: 'shiftY' },
        },
      ],
    },
  }));
}

/** Logarithmic middle of an axis from the power of ten below all values to the one above. */
function middle(values: readonly number[]): number {
  const logs = values.map(Math.log10);
  const least = logs.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  const most = logs.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  return (Math.floor(least) + Math.ceil(most)) / 2;
}

/** Gain or loss of one system per query, sorted. */
export function queryDifferences(a: readonly number[], b: readonly number[], metric: string): Markup {
  const all = a.map((v, i) => v - b[i]).sort((x, y) => y - x);
  return chart(`difference in ${metric} per query`, (width) => {
    // No more bars than pixels: each bar is the mean of its queries.
    const count = Math.min(all.length, Math.floor(width / 2));
    const values = Array.from({ length: count }, (_, i) => {
      const part = all.slice(Math.floor((i * all.length) / count), Math.floor(((i + 1) * all.length) / count));
      return part.reduce((s, v) => s + v, 0) / part.length;
    });
    return {
      height: 230,
      option: {
        grid: { left: 48, right: 12, top: 14, bottom: 40 },
        xAxis: axis({
          type: 'category',
          data: values.map((_, i) => i),
          name: `${all.length} queries, from most gained to most lost`,
          nameGap: 12,
          axisLabel: { show: false },
          splitLine: { show: false },
        }),
        yAxis: axis({ type: 'value', axisLabel: { color: colors.faint, formatter: short } }),
        series: [
          {
            type: 'bar',
            barCategoryGap: '0%',
            data: values.map((v) => ({ value: v, itemStyle: { color: v >= 0 ? colors.good : colors.bad } })),
          },
        ],
      },
    };
  });
}

/** Retention with its interval, metric by metric. */
export function intervals(
  rows: readonly { metric: string; retention: { value: number; low: number; high: number } }[],
): Markup {
  const shown = rows
    .filter((r) => [r.retention.value, r.retention.low, r.retention.high].every(Number.isFinite))
    .reverse();
  return chart('what is kept, with 95 % intervals', (width) => ({
    height: 46 + shown.length * 34,
    option: {
      grid: { left: 100, right: width < 500 ? 30 : 60, top: 8, bottom: 30 },
      xAxis: axis({
        type: 'value',
        scale: true,
        splitNumber: width < 500 ? 2 : 6,
        axisLabel: { color: colors.faint, formatter: (v: number) => `${short(100 * v)} %` },
      }),
      yAxis: axis({
        type: 'category',
        data: shown.map((r) => r.metric),
        splitLine: { show: false },
        axisLabel: { color: colors.text, fontSize: 13 },
      }),
      series: [
        {
          type: 'custom',
          data: shown.map((r, i) => [r.retention.low, r.retention.high, i]),
          encode: { x: [0, 1], y: 2 },
          renderItem: (_: object, api: { coord(p: number[]): number[]; value(i: number): number }): object => {
            const [from, y] = api.coord([api.value(0), api.value(2)]);
            const [to] = api.coord([api.value(1), api.value(2)]);
            return {
              type: 'rect',
              shape: { x: from, y: y - 3, width: Math.max(2, to - from), height: 6, r: 3 },
              style: { fill: colors.student, opacity: 0.35 },
            };
          },
        },
        {
          type: 'scatter',
          symbolSize: 12,
          itemStyle: { color: colors.student },
          data: shown.map((r, i) => [r.retention.value, i]),
          markLine: {
            silent: true,
            symbol: 'none',
            label: { show: false },
            lineStyle: { color: colors.faint, type: 'dashed' },
            data: [{ xAxis: 1 }],
          },
        },
      ],
    },
  }));
}

/** A line through points, e.g. quality by dimensions. */
export function curve(points: readonly [number, number][], x: string, y: string, logarithmic = false): Markup {
  return chart(`${y} by ${x}`, () => ({
    height: 260,
    option: {
      grid: { left: 58, right: 24, top: 20, bottom: 48 },
      xAxis: axis({
        type: logarithmic ? 'category' : 'value',
        ...(logarithmic ? { data: points.map((p) => String(p[0])) } : { max: 'dataMax' }),
        name: x,
        splitLine: { show: false },
      }),
      yAxis: axis({
        type: 'value',
        name: y,
        nameGap: 44,
        scale: true,
        axisLabel: { color: colors.faint, formatter: short },
      }),
      series: [
        {
          type: 'line',
          symbol: points.length > 40 ? 'none' : 'circle',
          symbolSize: 9,
          lineStyle: { color: colors.student, width: 2 },
          itemStyle: { color: colors.student },
          data: points.map(([at, v]) => (logarithmic ? [String(at), v] : [at, v])),
        },
      ],
    },
  }));
}

/** A cascade's quality by the number of pairs that the teacher scores, compared with random and oracle deferral. */
export function deferralChart({ curve: rule, random, oracle, at }: DeferralFigures, metric: string): Markup {
  const line = (name: string, points: DeferralFigures['curve'], style: object): object => ({
    name,
    type: 'line',
    symbol: 'none',
    itemStyle: { color: colors.other },
    ...style,
    data: [...points].sort((a, b) => a.pairs - b.pairs).map((p) => [p.pairs, p.quality]),
  });
  return chart(`${metric} by pairs per query`, () => ({
    height: 300,
    option: {
      legend: { top: 0, textStyle: { color: colors.text } },
      grid: { left: 58, right: 24, top: 36, bottom: 48 },
      xAxis: axis({ type: 'value', name: 'pairs per query', max: 'dataMax', splitLine: { show: false } }),
      yAxis: axis({
        type: 'value',
        name: metric,
        nameGap: 44,
        scale: true,
        axisLabel: { color: colors.faint, formatter: short },
      }),
      series: [
        line('oracle', oracle, {
          lineStyle: { color: colors.good, type: 'dashed' },
          itemStyle: { color: colors.good },
        }),
        line('the rule', rule, {
          lineStyle: { color: colors.student, width: 2 },
          itemStyle: { color: colors.student },
        }),
        line('random', random, { lineStyle: { color: colors.other, type: 'dotted' } }),
        {
          name: 'this cascade',
          type: 'scatter',
          symbolSize: 12,
          itemStyle: { color: colors.teacher },
          data: [[at.pairs, at.quality]],
        },
      ],
    },
  }));
}

/** Loss over the steps, smoothed over about a fiftieth of them. */
export function lossCurve({ log }: NonNullable<Figures['training']>): Markup {
  const window = Math.max(1, Math.round(log.length / 50));
  const smooth = log.map((_, i) => {
    const part = log.slice(Math.max(0, i - window + 1), i + 1);
    return [log[i].step, part.reduce((s, e) => s + e.loss, 0) / part.length] as [number, number];
  });
  const every = Math.ceil(smooth.length / 400);
  return curve(
    smooth.filter((_, i) => i % every === 0 || i === smooth.length - 1),
    'step',
    'loss',
  );
}
