/** @file What `distill exits` prints. */
import type { ExitsReport } from '../../search/exits/exits.ts';
import { table } from './figures.ts';

const percent = (x: number | undefined): string => (x === undefined ? '' : `${(100 * x).toFixed(1)} %`);

export function renderExits({ exits, curve, ...report }: ExitsReport): string {
  const chosen = curve.find((p) => p.threshold === report.threshold);
  return [
    '',
    report.guarantee,
    '',
    ...table([
      ['exit after', 'explained', 'best document unchanged', 'ndcg@10'],
      ...exits.map((e) => [
        `${e.layers} layers`,
        percent(e.explained),
        percent(e.sameBest),
        e.quality === undefined ? '' : e.quality.toFixed(4),
      ]),
    ]),
    '',
    ...(curve.length
      ? [
          ...table([
            ['threshold', 'layers a pair', 'mean loss', 'ndcg@10', 'best document unchanged'],
            ...curve.map((p) => [
              `${Number.isFinite(p.threshold) ? p.threshold : 'all layers'}${p === chosen ? ' *' : ''}`,
              p.layers.toFixed(2),
              p.risk.toFixed(4),
              p.quality.toFixed(4),
              percent(p.sameBest),
            ]),
          ]),
          '* certified',
          '',
        ]
      : []),
    `fitted on   ${report.pairs} pairs; a fifth of them measured the share of the whole model's variance that is explained`,
    ...(report.difference === undefined
      ? []
      : [`segments    differ from the whole model by ${report.difference.toExponential(1)}`]),
    ...(report.kept === undefined
      ? []
      : [`trained     all layers explain ${percent(report.kept)} of the variance of the logits that the model had`]),
    `written     ${report.output}`,
    '',
  ].join('\n');
}
