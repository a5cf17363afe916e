/** @file Measures a sparse student: encodes documents, indexes them, searches a split by an inverted index. */
import type { RunControl } from '../../../common/progress.ts';
import { type Dataset, judgedQueries } from '../../../data/dataset.ts';
import { Column } from '../../../data/table/columns.ts';
import { quantile } from '../../../math/resampling.ts';
import type { SparseEncoder } from '../../../models/sparse/sparse-encoder.ts';
import { ImpactIndex, type Impacts } from '../../../retrieval/sparse/impact-index.ts';
import { isQueryItself, type Run } from '../../metrics/evaluate.ts';
import { lazyRun } from '../../metrics/run-on-demand.ts';
import type { Split } from '../retrieve.ts';

/** What an index costs. */
export interface SparseCosts {
  /** Mean postings of a document, and of a query those that a search reads. */
  postingsADocument: number;
  postingsAQuery: number;
  /** Bytes of the index. */
  bytes: number;
  /** From a query's text to its 100 best documents, on one thread. */
  milliseconds: { p50: number; p95: number };
}

export interface SparseLimits {
  queryTokens?: number;
  documentTokens?: number;
}

/** The documents of a data set, or some of them, as an index. */
export async function indexSparse(
  encoder: SparseEncoder,
  { documents }: Pick<Dataset, 'documents'>,
  { documentTokens }: SparseLimits,
  watch: RunControl,
  impacts: Impacts = 'float32',
  sample?: Int32Array,
): Promise<ImpactIndex> {
  const texts = sample ? { length: sample.length, text: (i: number) => documents.text(sample[i]) } : documents;
  const rows = await encoder.documents(texts, { ...watch, maxLength: documentTokens });
  return ImpactIndex.of(rows, encoder.vocabulary, impacts);
}

/** The best documents for each judged query of a split, without a document that is the query itself; and what that costs. */
export function searchSparse(
  encoder: SparseEncoder,
  index: ImpactIndex,
  { dataset, split, depth, sample }: Split,
  { queryTokens }: SparseLimits,
): { run: Run; costs: SparseCosts } {
  const itself = isQueryItself(dataset);
  const times: number[] = [];
  let read = 0;
  const [places, scores] = [new Column(Int32Array), new Column(Float32Array)];
  const ends = new Column(Float64Array);
  const id = (d: number): string => dataset.documents.ids[sample ? sample.documents[d] : d];
  const asked = sample?.queries ?? judgedQueries(dataset, split);
  for (const q of asked) {
    const query = dataset.queries.ids[q];
    const started = performance.now();
    const vector = encoder.query(dataset.queries.text(q), queryTokens);
    const found = index.search(vector, depth + 1);
    times.push(performance.now() - started);
    read += index.work(vector);
    const kept = Array.from(found.indices.keys())
      .filter((i) => id(found.indices[i]) !== query || !itself(query))
      .slice(0, depth);
    for (const i of kept) {
      places.push(found.indices[i]);
      scores.push(found.scores[i]);
    }
    ends.push(places.length);
  }
  const [allPlaces, allScores] = [places.all, scores.all];
  const run = lazyRun(dataset.queries, asked, (place) => {
    const [from, to] = [place ? ends.at(place - 1) : 0, ends.at(place)];
    return { ids: Array.from(allPlaces.subarray(from, to), id), scores: allScores.subarray(from, to) };
  });
  const { documents, places: postings } = index.postings;
  return {
    run,
    costs: {
      postingsADocument: postings.length / Math.max(1, documents),
      postingsAQuery: read / Math.max(1, times.length),
      bytes: index.bytes,
      milliseconds: { p50: quantile(times, 0.5), p95: quantile(times, 0.95) },
    },
  };
}

/** The costs as a sentence. */
export const describeCosts = ({
  postingsADocument,
  postingsAQuery,
  bytes,
  milliseconds: { p50, p95 },
}: SparseCosts): string =>
  `${postingsADocument.toFixed(1)} postings a document, an index of ${(bytes / 1e6).toFixed(1)} MB, ${Math.round(postingsAQuery)} postings read a query, ${p50.toFixed(2)} ms a query (p95 ${p95.toFixed(2)} ms)`;
