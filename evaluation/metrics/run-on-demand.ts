/** @file A run over search results: a query's ids are looked up when they are asked for, so that millions of queries cost 8 bytes a hit. */
import type { Dataset } from '../../data/dataset.ts';
import type { Hits } from '../../retrieval/exact-search.ts';
import { type Found, isQueryItself, type Run } from './evaluate.ts';

/**
 * Search results as a run, without documents that are the query itself.
 * @param positions of the queries in the data set, in the order of the hits; each once
 * @param sample documents that were searched; all by default
 */
export function runOnDemand(
  { k, indices, scores }: Hits,
  positions: readonly number[],
  dataset: Pick<Dataset, 'queries' | 'documents'>,
  depth: number,
  sample?: Int32Array,
): Run {
  const itself = isQueryItself(dataset);
  const idOf = (at: number): string => dataset.documents.ids[sample ? sample[indices[at]] : indices[at]];
  return lazyRun(dataset.queries, positions, (place) => {
    const query = dataset.queries.ids[positions[place]];
    const kept: number[] = [];
    for (let at = place * k; at < (place + 1) * k && kept.length < depth; at++)
      if (idOf(at) !== query || !itself(query)) kept.push(at);
    return { ids: kept.map(idOf), scores: Float32Array.from(kept, (at) => scores[at]) };
  });
}

/**
 * A run whose results are made when they are asked for.
 * @param positions of the queries in their table, each once
 * @param found results of the query at a place among the positions
 */
export function lazyRun(
  { ids, indexOf }: Pick<Dataset['queries'], 'ids' | 'indexOf'>,
  positions: readonly number[] | Int32Array,
  found: (place: number) => Found,
): Run {
  const places = new Int32Array(ids.length).fill(-1);
  for (const [place, position] of positions.entries()) places[position] = place;
  const placeOf = (id: string): number => {
    const position = indexOf(id);
    return position === undefined ? -1 : places[position];
  };
  function* keys(): MapIterator<string> {
    for (const position of positions) yield ids[position];
    return undefined;
  }
  function* values(): MapIterator<Found> {
    for (let place = 0; place < positions.length; place++) yield found(place);
    return undefined;
  }
  function* entries(): MapIterator<[string, Found]> {
    for (const [place, position] of positions.entries()) yield [ids[position], found(place)];
    return undefined;
  }
  const run: Run = {
    size: positions.length,
    has: (id) => placeOf(id) >= 0,
    get(id) {
      const place = placeOf(id);
      return place < 0 ? undefined : found(place);
    },
    forEach(each) {
      for (const [id, value] of entries()) each(value, id, run);
    },
    keys,
    values,
    entries,
    [Symbol.iterator]: entries,
  };
  return run;
}
