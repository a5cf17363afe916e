/** @file What `distill split` prints. */
import type { SplitReport } from '../../search/split/split.ts';
import { table } from './figures.ts';

export function renderSplit({ measured, verdict, ...report }: SplitReport): string {
  return [
    ...(verdict === undefined ? [] : ['', verdict]),
    '',
    ...(measured
      ? [
          ...table([
            [`on ${measured.queries} queries`, 'ndcg@10', 'tau to the whole', 'ms a pair', 'KB a document (float16)'],
            ...(['whole', 'untrained', 'trained'] as const).map((name) => {
              const { ndcg, tau, milliseconds, kilobytes } = measured[name];
              return [
                name,
                ndcg.toFixed(4),
                tau === undefined ? '' : tau.toFixed(3),
                milliseconds.toFixed(2),
                kilobytes === undefined ? '' : kilobytes.toFixed(1),
              ];
            }),
          ]),
          '',
        ]
      : []),
    `split       after layer ${report.below} of ${report.layers}`,
    `trained     ${report.steps} steps on ${report.pairs} pairs, ${report.stepSeconds.toFixed(2)} s a step, loss ${report.loss.toPrecision(4)}`,
    `written     ${report.output}`,
    '',
  ].join('\n');
}
