/**
 * @file An approximate index compared with exact search: recall, speed, build time.
 *
 *     npm run bench -- index [documents] [--model DIR --data DIR] [--noise 0.1] [--queries 200]
 *
 * Vectors are a model's embeddings of a data set, repeated with noise until there are enough, or random clusters if no model is
 * given; the first line says which.
 */
import { parseArgs } from 'node:util';
import { openDataset } from '../../data/open.ts';
import { Random } from '../../math/random.ts';
import { Encoder } from '../../models/encoder.ts';
import { measureIndex } from '../../retrieval/approximate-search.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string' },
    data: { type: 'string' },
    noise: { type: 'string', default: '0.1' },
    queries: { type: 'string', default: '200' },
    texts: { type: 'string', default: '2000' },
    expansion: { type: 'string', default: '64' },
  },
});
const wanted = Number(positionals[0] ?? 20_000);
const noise = Number(values.noise);
const random = Random.of(0, 'index-bench');

const base = values.model && values.data ? await embedded(values.model, values.data) : clusters();
const { dimensions } = base;
const distinct = base.documents.length / dimensions;
const documents = repeated(base.documents, wanted);
console.log(
  `${wanted} vectors of ${dimensions} dimensions: ${base.what}${wanted > distinct ? `, ${distinct} distinct ones repeated with Gaussian noise of length ${noise}` : ''}`,
);
let last = 0;
const found = await measureIndex(base.queries, documents, dimensions, {
  k: 10,
  expansionSearch: Number(values.expansion),
  onProgress: ({ stage, done, total }) => {
    if (performance.now() - last < 10_000) return;
    last = performance.now();
    console.error(`${stage} ${done}/${total}`);
  },
});
console.log(
  JSON.stringify({ ...found, expansionSearch: Number(values.expansion), noise: wanted > distinct ? noise : 0 }),
);

async function embedded(model: string, data: string) {
  const dataset = await openDataset(data);
  const encoder = await Encoder.load(model);
  const take = (table: { length: number; text(i: number): string }, n: number) => ({
    length: Math.min(n, table.length),
    text: (i: number) => table.text(i),
  });
  try {
    return {
      what: `embeddings of ${dataset.name} by ${model}`,
      dimensions: encoder.dimensions,
      queries: await encoder.encode(take(dataset.queries, Number(values.queries)), { maxLength: 64 }),
      documents: await encoder.encode(take(dataset.documents, Math.min(wanted, Number(values.texts))), {
        maxLength: 192,
      }),
    };
  } finally {
    await encoder.dispose();
  }
}

/** 384-dimensional points about 500 centres, on the unit sphere. */
function clusters() {
  const dimensions = 384;
  const centres = unit(
    Float32Array.from({ length: 500 * dimensions }, () => random.normal()),
    dimensions,
  );
  const points = (n: number): Float32Array => {
    const out = new Float32Array(n * dimensions);
    for (let i = 0; i < n; i++) {
      const c = random.integer(500);
      for (let k = 0; k < dimensions; k++)
        out[i * dimensions + k] = centres[c * dimensions + k] + (0.7 * random.normal()) / Math.sqrt(dimensions);
    }
    return unit(out, dimensions);
  };
  return {
    what: 'random points about 500 centres (no model given)',
    dimensions,
    queries: points(Number(values.queries)),
    documents: points(Math.min(wanted, 20_000)),
  };
}

/** The requested number of rows: the given rows, then copies with noise of the given length. */
function repeated(rows: Float32Array, n: number): Float32Array {
  const m = rows.length / dimensions;
  const out = new Float32Array(n * dimensions);
  const scale = noise / Math.sqrt(dimensions);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < dimensions; k++)
      out[i * dimensions + k] = rows[(i % m) * dimensions + k] + (i < m ? 0 : scale * random.normal());
  return unit(out, dimensions);
}

function unit(rows: Float32Array, width: number): Float32Array {
  for (let at = 0; at < rows.length; at += width) {
    let square = 0;
    for (let k = at; k < at + width; k++) square += rows[k] ** 2;
    const norm = Math.sqrt(square) || 1;
    for (let k = at; k < at + width; k++) rows[k] /= norm;
  }
  return rows;
}
