/**
 * @file The share of changed documents that each ranker puts below the relevant one, by the kind of change.
 *
 *     npm run bench -- robustness --data DIR --encoder DIR [--late DIR] [--teacher DIR] [--split test] [--queries 200]
 *
 * Attributes and names are taken from the document that BM25 finds nearest to the relevant one; `--encoder` is a dual-encoder that is measured. `--late` is a checkpoint of the
 * pipeline late-interaction, `--teacher` a cross-encoder.
 */
import { parseArgs } from 'node:util';
import { judgedQueries } from '../../data/dataset.ts';
import { openDataset } from '../../data/open.ts';
import {
  type PairScorer,
  perturbations,
  robustnessSet,
  shareRight,
} from '../../generation/perturbed/robustness-set.ts';
import { Random } from '../../math/random.ts';
import { bm25 } from '../../retrieval/bm25.ts';
import { openReranker } from '../../serving/reranker.ts';
import { crossEncoder } from '../../teachers/cross-encoder.ts';
import { dualEncoder } from '../../teachers/dual-encoder.ts';

const { values } = parseArgs({
  options: {
    data: { type: 'string', default: '' },
    encoder: { type: 'string', default: '' },
    late: { type: 'string' },
    teacher: { type: 'string' },
    split: { type: 'string', default: 'test' },
    queries: { type: 'string', default: '200' },
    near: { type: 'string', default: '5' },
  },
});
const dataset = await openDataset(values.data);
const { documents } = dataset;
const encoder = await dualEncoder(values.encoder, { queryTokens: 64, documentTokens: 192 });
const embed = encoder.embed as NonNullable<typeof encoder.embed>;

// Near documents by BM25 with the relevant document's own text, so that a corpus need not be embedded.
const index = await bm25(documents);
const judged = new Set(judgedQueries(dataset, values.split));
const near = (query: number, document: number): number[] => {
  if (!judged.has(query)) return [];
  const { indices } = index.search(documents.text(document), Number(values.near) + 1);
  return [...indices].filter((d) => d !== document);
};
const items = robustnessSet(dataset, values.split, near, { count: Number(values.queries), seed: 0 });

const cosines: PairScorer = async (pairs) => {
  const texts = (of: 'query' | 'document') => {
    const all = [...new Set(pairs.map((p) => p[of]))];
    return {
      all,
      place: new Map(all.map((t, i) => [t, i])),
      table: { length: all.length, text: (i: number) => all[i] },
    };
  };
  const [q, d] = [texts('query'), texts('document')];
  const [a, b] = [await embed(q.table, 'query'), await embed(d.table, 'document')];
  const D = a.dimensions;
  return pairs.map(({ query, document }) => {
    const [i, j] = [q.place.get(query) as number, d.place.get(document) as number];
    let dot = 0;
    for (let k = 0; k < D; k++) dot += a.data[i * D + k] * b.data[j * D + k];
    return dot;
  });
};
const words: PairScorer = async (pairs) => {
  const all = [...new Set(pairs.map((p) => p.document))];
  const own = await bm25({ length: all.length, text: (i: number) => all[i] });
  const place = new Map(all.map((t, i) => [t, i]));
  return pairs.map(({ query, document }) => own.scores(query, Int32Array.of(place.get(document) as number))[0]);
};
const systems: [string, PairScorer][] = [
  ['BM25', words],
  ['dual-encoder', cosines],
];
const closing: (() => Promise<void>)[] = [() => encoder.dispose()];
if (values.late) {
  const late = await openReranker(values.late);
  closing.push(() => late.dispose());
  systems.push([
    'late interaction',
    async (pairs) => {
      const scores = new Float32Array(pairs.length);
      const byQuery = new Map<string, number[]>();
      for (const [i, { query }] of pairs.entries()) byQuery.set(query, [...(byQuery.get(query) ?? []), i]);
      for (const [query, at] of byQuery) {
        const found = await late.score(
          query,
          at.map((i) => pairs[i].document),
        );
        for (const [k, i] of at.entries()) scores[i] = found[k];
      }
      return scores;
    },
  ]);
}
if (values.teacher) {
  const teacher = await crossEncoder(values.teacher, { maxQuery: 32, maxDocument: 192 });
  closing.push(() => teacher.dispose());
  systems.push([
    'teacher',
    (pairs) => teacher.score(pairs.map((p, i) => ({ ...p, queryId: '', documentId: String(i) }))),
  ]);
}
const counts = perturbations.map((kind) => items.filter((i) => i.kind === kind).length);
console.log(`items       ${perturbations.map((kind, i) => `${kind} ${counts[i]}`).join(', ')}`);
const sample = Random.of(0, 'shown').integer(Math.max(1, items.length));
if (items[sample]) console.log(`one of them ${JSON.stringify(items[sample]).slice(0, 400)}`);
console.log(`${'system'.padEnd(18)}${perturbations.map((kind) => kind.padStart(19)).join('')}`);
for (const [name, score] of systems) {
  const share = await shareRight(items, score);
  const cell = (kind: (typeof perturbations)[number]): string => {
    const found = share[kind];
    return found ? `${((100 * found.right) / found.of).toFixed(1)} %` : '-';
  };
  console.log(`${name.padEnd(18)}${perturbations.map((kind) => cell(kind).padStart(19)).join('')}`);
}
for (const close of closing) await close();
