/** @file Judgements by position and by id: maps of millions of queries are made on demand. */

/** Relevant documents with grades by query, as positions; the highest grade first. */
export type Relevant = ReadonlyMap<number, ReadonlyMap<number, number>>;

/** Judgements that know the positions of what they name. */
export interface JudgedPositions {
  /** The tables that positions are of. */
  readonly queries: object;
  readonly documents: object;
  /** The judged queries, in order. */
  readonly positions: Int32Array;
  readonly relevant: Relevant;
}

const known = new WeakMap<object, JudgedPositions>();

/** Says what the positions of judgements are. */
export function rememberPositions(qrels: object, positions: JudgedPositions): void {
  known.set(qrels, positions);
}

/** The positions of judgements, where they are of these very tables. */
export function positionsIn(
  qrels: object,
  tables: { readonly queries: object; readonly documents?: object },
): JudgedPositions | undefined {
  const found = known.get(qrels);
  if (found?.queries !== tables.queries) return undefined;
  return tables.documents === undefined || found.documents === tables.documents ? found : undefined;
}

/**
 * A map whose values are made when they are asked for.
 * @param at of the key at a place
 */
export function mapOnDemand<V>(keys: Int32Array, at: (place: number) => V): ReadonlyMap<number, V> {
  let largest = -1;
  for (const key of keys) if (key > largest) largest = key;
  const places = new Int32Array(largest + 1).fill(-1);
  for (let i = 0; i < keys.length; i++) places[keys[i]] = i;
  const place = (key: number): number => places[key] ?? -1;
  function* values(): MapIterator<V> {
    for (let i = 0; i < keys.length; i++) yield at(i);
    return undefined;
  }
  function* entries(): MapIterator<[number, V]> {
    for (let i = 0; i < keys.length; i++) yield [keys[i], at(i)];
    return undefined;
  }
  const map: ReadonlyMap<number, V> = {
    size: keys.length,
    has: (key) => place(key) >= 0,
    get: (key) => (place(key) < 0 ? undefined : at(place(key))),
    forEach(each) {
      for (const [key, value] of entries()) each(value, key, map);
    },
    keys: () => keys.values() as MapIterator<number>,
    values,
    entries,
    [Symbol.iterator]: entries,
  };
  return map;
}
