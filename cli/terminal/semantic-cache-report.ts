/** @file What `distill semantic-cache` prints. */
import type { SemanticCacheReport } from '../../search/semantic-cache.ts';
import { table } from './figures.ts';

const percent = (x: number): string => `${(100 * x).toFixed(1)} %`;

export function renderSemanticCache(report: SemanticCacheReport): string {
  return [
    '',
    report.guarantee,
    '',
    ...table([
      ['cosine from', 'hits', 'mean loss', 'mean loss of hits'],
      ...report.curve.map((p) => [
        `${Number.isFinite(p.threshold) ? p.threshold : 'same text'}${p.threshold === report.threshold ? ' *' : ''}`,
        percent(p.hits),
        p.risk.toFixed(4),
        p.lossOfHits.toFixed(4),
      ]),
    ]),
    report.certified ? '* certified' : '* taken without a promise',
    '',
    ...table([
      ['came before', 'queries', 'hits', 'mean loss of hits', 'if all were taken'],
      ...report.kinds.map((k) => [
        k.kind === 'repeat' ? 'the same query' : k.kind === 'new' ? 'nothing of it' : `a word ${k.kind}`,
        String(k.arrivals),
        percent(k.hits),
        k.lossOfHits.toFixed(4),
        k.lossOfAll.toFixed(4),
      ]),
    ]),
    '',
    `written     ${report.output}`,
    '',
  ].join('\n');
}
