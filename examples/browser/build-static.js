/**
 * @file Makes one HTML file that searches a corpus with a static student: tower, vectors, an inverted index and the texts inside.
 *
 * node examples/browser/build-static.js --student runs/static --data demo/data --output search.html [--documents DIR] [--k1 0.9] [--b 0.4]
 *
 * The weight of the words is fitted on the dev queries, where the data has some; --lambda sets it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({
  options: {
    student: { type: 'string' },
    data: { type: 'string' },
    output: { type: 'string', default: 'search.html' },
    documents: { type: 'string' },
    lambda: { type: 'string' },
    k1: { type: 'string', default: '0.9' },
    b: { type: 'string', default: '0.4' },
    dist: { type: 'string', default: join(here, '../../dist') },
  },
});
if (!values.student || !values.data) {
  console.error('usage: build-static.js --student FOLDER --data FOLDER [--output search.html] [--documents FOLDER]');
  process.exit(2);
}
const { openDataset } = await import(join(values.dist, 'index.js'));
const { openEncoder } = await import(join(values.dist, 'serving/index.js'));
const { StaticEncoder } = await import(join(values.dist, 'static/index.js'));
const { encodeStaticIndex, StaticSearch } = await import(join(values.dist, 'static/search.js'));

const towerFile = join(values.student, 'static.safetensors');
const tower = readFileSync(towerFile);
const encoder = new StaticEncoder(tower);
const { documents, queries, splits, qrels } = await openDataset(values.data).then((d) => ({
  ...{ documents: d.documents, queries: d.queries, splits: d.splits },
  qrels: (split) => d.qrels(split),
}));
const opened = await openEncoder(towerFile, { documents: values.documents });
const vectors = await opened.embedDocuments(documents);
await opened.dispose();
const texts = Array.from({ length: documents.length }, (_, i) => documents.text(i));
const base = {
  ids: documents.ids,
  terms: texts.map((t) => encoder.terms(t)),
  k1: Number(values.k1),
  b: Number(values.b),
};
const indexOf = (lambda, scale, of = vectors) => encodeStaticIndex({ ...base, vectors: of, lambda, scale });

/** Mean nDCG@10 over a split's judged queries. */
function quality(file, split) {
  const search = new StaticSearch(encoder, file);
  const all = [...qrels(split)].map(([id, grades]) => {
    const ideal = [...grades.values()].filter((g) => g > 0).sort((a, b) => b - a);
    const dcg = (gains) => gains.slice(0, 10).reduce((s, g, i) => s + g / Math.log2(i + 2), 0);
    const found = search.search(queries.text(queries.indexOf(id)), 10);
    return ideal.length ? dcg(found.map((h) => Math.max(0, grades.get(h.id) ?? 0))) / dcg(ideal) : undefined;
  });
  const known = all.filter((v) => v !== undefined);
  return known.reduce((a, b) => a + b, 0) / Math.max(1, known.length);
}

const dev = splits.includes('dev') ? [...qrels('dev').keys()] : [];
// The scale is the mean of the best BM25 score of a query.
const words = new StaticSearch(encoder, indexOf(1, 1, new Float32Array(vectors.length)));
const asked = dev.length ? dev.map((id) => queries.text(queries.indexOf(id))) : texts.slice(0, 200);
const scale = asked.reduce((s, t) => s + (words.search(t, 1)[0]?.score ?? 0), 0) / Math.max(1, asked.length) || 1;
let lambda = values.lambda === undefined ? 0.2 : Number(values.lambda);
if (values.lambda === undefined && dev.length) {
  const tried = [0, 0.1, 0.2, 0.3, 0.4, 0.5].map((l) => [l, quality(indexOf(l, scale), 'dev')]);
  [lambda] = tried.reduce((a, b) => (b[1] > a[1] ? b : a));
}
const index = indexOf(lambda, scale);

const base64 = (bytes) => Buffer.from(bytes).toString('base64');
const moduleUrl = (name) => `data:text/javascript;base64,${base64(readFileSync(join(values.dist, 'static', name)))}`;
// Nothing of a text may end the element that holds it.
const json = (value) => JSON.stringify(value).replaceAll('<', '\\u003c');
const shown = texts.map((text) => text.slice(0, 300));
const page = readFileSync(join(here, 'static.html'), 'utf8')
  .replace('"MODULES"', () => json({ encoder: moduleUrl('index.js'), search: moduleUrl('search.js') }))
  .replace('"TEXTS"', () => json(shown))
  .replace('TOWER', () => base64(tower))
  .replace('INDEX', () => base64(index));
writeFileSync(values.output, page);
const mb = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
console.log(
  `${values.output}: ${documents.length} documents, tower ${mb(tower.length)}, index ${mb(index.length)}, page ${mb(page.length)}; words weigh ${lambda}`,
);
for (const split of ['dev', 'test'].filter((s) => splits.includes(s)))
  console.log(
    `${split}: nDCG@10 ${quality(index, split).toFixed(4)}, by vectors alone ${quality(indexOf(0, scale), split).toFixed(4)}`,
  );
